"""https from the server itself: streams, slow readers, a new certificate, and files that cannot work."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from brook.errors import OperatorError
from handlers.certificate import Certificate
from tests.support.certificates import Authority
from tests.support.processes import ROOT
from tests.support.raw_client import RawClient

MEGABYTE = 2**20


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


def options(certificate: Path, key: Path) -> tuple[str, ...]:
    return ("--tls-cert", str(certificate), "--tls-key", str(key))


def served_name(port: int, trusted: ssl.SSLContext) -> str:
    """The name in the certificate that a new connection gets."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as bare,
        trusted.wrap_socket(bare, server_hostname="localhost") as encrypted,
    ):
        subject = encrypted.getpeercert()["subject"]
        return dict(pair for [pair] in subject)["commonName"]


def start_and_fail(*arguments: str) -> str:
    """What the server says when it refuses to start."""
    command = [sys.executable, str(ROOT / "server.py"), "--demo", "--port", "0", *arguments]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False
    )
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize("http", ["1.1", "1.0"])
def test_stream_flows_and_resumes_over_https(http, authority, sandbox, database, start_server):
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, *options(*authority.issue("first"))
    )
    trusted = authority.trusted()

    async def scenario() -> None:
        client = await (await RawClient(server.port, http=http, tls=trusted).connect()).opened()
        assert client.status == 200
        for number in range(20):
            database.creatures.insert_one({"_id": number, "pad": "x" * number * 3000})
            assert f'"_id":{number},' in (await client.next()).data
        client.close()
        database.creatures.insert_one({"_id": 20})
        again = await RawClient(server.port, http=http, last_id=client.parser.last_id, tls=trusted).connect()
        assert (await again.next()).data == '{"_id":20}'
        again.close()
        await asyncio.to_thread(server.wait_for, "client left .*client-left, resumed")

    asyncio.run(scenario())


def test_other_paths_and_the_demo_are_served_over_https(authority, start_server):
    server = start_server("--demo", *options(*authority.issue("first")))
    trusted = authority.trusted()
    with urllib.request.urlopen(server.url + "/", timeout=20, context=trusted) as page:
        assert b"<title>" in page.read()

    async def scenario() -> None:
        with closing(await RawClient(server.port, tls=trusted).connect()) as client:
            assert (await client.next()).data

    asyncio.run(scenario())


def test_every_byte_arrives_at_a_reader_that_reads_slowly(authority, sandbox, database, start_server):
    """Far more than the kernel holds: OpenSSL refuses records, and wants the same ones again."""
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, *options(*authority.issue("first")),
        "--queue-max-bytes", str(64 * MEGABYTE), "--compression", "off",
    )  # fmt: skip
    pad = os.urandom(100_000).hex()

    async def scenario() -> None:
        client = await (await RawClient(server.port, tls=authority.trusted()).connect()).opened()
        documents = [{"_id": number, "pad": pad[: 1 + number * 3001]} for number in range(60)]
        await asyncio.to_thread(database.creatures.insert_many, documents)
        database.creatures.insert_one({"_id": 60})
        await asyncio.sleep(0.3)
        for document in documents:
            data = (await client.next()).data
            assert data == f'{{"_id":{document["_id"]},"pad":"{document["pad"]}"}}'
        assert (await client.next()).data == '{"_id":60}'
        client.close()

    asyncio.run(scenario())


def test_reader_that_stops_is_cut_off_at_the_bound(authority, sandbox, database, start_server):
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, *options(*authority.issue("first")),
        "--queue-max-bytes", str(2 * MEGABYTE), "--history-max-bytes", str(2 * MEGABYTE),
        "--compression", "off",
    )  # fmt: skip
    pad = os.urandom(25_000).hex()
    process = psutil.Process(server.pid)
    with (
        socket.create_connection(("127.0.0.1", server.port)) as bare,
        authority.trusted().wrap_socket(bare, server_hostname="localhost") as stopped,
    ):
        stopped.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stopped.recv(15) == b"HTTP/1.1 200 OK"
        before = process.memory_info().rss
        for turn in range(20):
            documents = [{"_id": 50 * turn + number, "pad": pad} for number in range(50)]
            database.creatures.insert_many(documents)
        assert process.memory_info().rss - before < 48 * MEGABYTE
        received = b""
        while data := stopped.recv(65536):
            received = (received + data)[-1000:]
        assert b'event: bye\ndata: {"reason":"slow-consumer"}' in received
        assert received.endswith(b"\r\n0\r\n\r\n")
    server.wait_for("client left .*slow-consumer")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_new_certificate_is_served_after_sighup_and_streams_go_on(
    processes, authority, sandbox, database, start_server, tmp_path
):
    current = tmp_path / "current.crt", tmp_path / "current.key"

    def install(name: str) -> None:
        for source, target in zip(authority.issue(name), current, strict=True):
            shutil.copy(source, target)

    install("first")
    server = start_server(
        "--mongo", sandbox.uri, "--database", database.name, *options(*current), "--processes", processes
    )
    trusted = authority.trusted()

    async def scenario() -> None:
        client = await (await RawClient(server.port, tls=trusted).connect()).opened()
        assert served_name(server.port, trusted) == "first"
        install("second")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(int(processes)):
            await asyncio.to_thread(server.wait_for, "new connections get the certificate of .*current.crt")
        assert {served_name(server.port, trusted) for _ in range(8)} == {"second"}
        current[1].write_text("no key\n")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(int(processes)):
            await asyncio.to_thread(
                server.wait_for, "certificate in use stays: --tls-key .*current.key holds no"
            )
        assert {served_name(server.port, trusted) for _ in range(8)} == {"second"}
        database.creatures.insert_one({"_id": 1})
        assert (await client.next()).data == '{"_id":1}'
        client.close()

    asyncio.run(scenario())
    assert server.stop() == 0


def test_files_that_cannot_work_are_named_with_the_remedy(authority, tmp_path):
    certificate, key = authority.issue("first")
    _, other = authority.issue("other")
    _, locked = authority.issue("locked", passphrase=b"hunter2")
    empty = tmp_path / "empty.pem"
    empty.touch()
    missing = tmp_path / "missing.pem"
    for files, words in (
        ((certificate, other), f"{other} is not the key of the certificate in --tls-cert {certificate}"),
        ((missing, key), f"--tls-cert {missing} cannot be read (No such file or directory)"),
        ((certificate, missing), f"--tls-key {missing} cannot be read (No such file or directory)"),
        ((certificate, tmp_path), f"--tls-key {tmp_path} cannot be read (Is a directory)"),
        ((empty, key), f"--tls-cert {empty} holds no certificate"),
        ((key, key), f"--tls-cert {key} holds no certificate"),
        ((certificate, certificate), f"--tls-key {certificate} holds no private key"),
        ((certificate, locked), f"--tls-key {locked} is encrypted"),
    ):
        with pytest.raises(OperatorError, match=re.escape(words)):
            Certificate(*map(str, files))


def test_server_does_not_start_with_the_wrong_key_or_without_any(authority):
    certificate, _ = authority.issue("first")
    _, other = authority.issue("other")
    assert f"{other} is not the key" in start_and_fail(*options(certificate, other))
    assert "go together: --tls-key is missing" in start_and_fail("--tls-cert", str(certificate))


def test_clients_that_speak_no_tls_or_an_old_one_are_refused_and_harm_nobody(authority, start_server):
    server = start_server("--demo", *options(*authority.issue("first")), "--request-timeout-seconds", "1")
    trusted = authority.trusted()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
        plain.sendall(b"GET /stream?access_token=hunter2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert b"HTTP" not in plain.recv(1000)
        except ConnectionResetError:
            pass
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(authority.path)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served_name(server.port, old)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as silent:
        silent.sendall(b"\x16\x03\x01")  # the beginning of a handshake, and no more
        assert silent.recv(1) == b""
    assert served_name(server.port, trusted) == "first"
    assert "hunter2" not in "\n".join(server.log)
    assert "Traceback" not in "\n".join(server.log)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_stream_ends_when_its_client_sends_something_or_closes(version, authority, start_server):
    server = start_server("--demo", *options(*authority.issue("first")))
    trusted = authority.trusted()
    trusted.minimum_version = trusted.maximum_version = version
    for last_words in (b"more", b""):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as bare:
            encrypted = trusted.wrap_socket(bare, server_hostname="localhost")
            with encrypted:
                assert encrypted.version() == version.name.replace("_", ".")
                encrypted.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert encrypted.recv(15) == b"HTTP/1.1 200 OK"
                if last_words:
                    encrypted.sendall(last_words)
                    while encrypted.recv(65536):
                        pass
        server.wait_for("client left .*client-left")
