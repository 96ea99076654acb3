"""A replica set of one mongod that takes only connections with TLS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from sources.sandbox import Node
from tests.support import mongods
from tests.support.certificates import Authority


class EncryptedNode(Node):
    """A mongod with TLS; `wants_certificate` from its clients, too."""

    def __init__(self, folder: Path, authority: Authority, *, wants_certificate: bool) -> None:
        options = ["--tlsMode", "requireTLS", "--tlsCAFile", str(authority.path)]
        options += ["--tlsCertificateKeyFile", str(_in_one_file(authority, "mongod"))]
        if not wants_certificate:
            options.append("--tlsAllowConnectionsWithoutCertificates")
        super().__init__(folder, options)
        self.authority = authority
        self.client_certificate = _in_one_file(authority, "client")

    @property
    def tls(self) -> str:
        """The options of a URI that trusts this node, and shows a certificate."""
        return f"tls=true&tlsCAFile={self.authority.path}&tlsCertificateKeyFile={self.client_certificate}"

    def uri(self, tls: str) -> str:
        return f"mongodb://127.0.0.1:{self.port}/shop?replicaSet=sandbox&{tls}"

    def client(self, patience_ms: int = 5000) -> MongoClient[Any]:
        uri = f"mongodb://127.0.0.1:{self.port}/?directConnection=true&{self.tls}"
        return MongoClient(uri, serverSelectionTimeoutMS=patience_ms)


@contextmanager
def running(folder: Path, *, wants_certificate: bool) -> Iterator[EncryptedNode]:
    """Start one, and make it a primary."""
    node = EncryptedNode(folder / "node", Authority(folder), wants_certificate=wants_certificate)
    with mongods.running(node), node.client() as client:
        host = f"127.0.0.1:{node.port}"
        client.admin.command("replSetInitiate", {"_id": "sandbox", "members": [{"_id": 0, "host": host}]})
        until = time.monotonic() + 30
        while not client.admin.command("hello").get("isWritablePrimary"):
            assert time.monotonic() < until
            time.sleep(0.02)
        yield node


def _in_one_file(authority: Authority, name: str) -> Path:
    """A certificate and its key together, as MongoDB's options want them."""
    certificate, key = authority.issue(name)
    both = authority.folder / f"{name}.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return both
