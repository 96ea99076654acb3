"""When MongoDB is not there, not right, or not there any more; and stopping, whatever the state."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass

import pymongo
import pytest
from pymongo import WriteConcern

from brook.changes import resume_token
from brook.errors import OperatorError
from brook.event import Batch, Event, Position, Reset
from brook.namespaces import named_database
from brook.settings import Settings
from server import serve
from sources.mongo import MongoSource
from sources.mongo.cursor import Cursor
from sources.sandbox import Node, Sandbox
from tests.support import mongods
from tests.support.fakes import until
from tests.support.mongods import running
from tests.support.ports import free_port
from tests.support.processes import ROOT, ServerProcess
from tests.support.proxy import Proxy
from tests.support.raw_client import RawClient, Received

SECRET = "hunter2secret"

# A socket timeout that is over soon, and still longer than a getMore may wait.
IMPATIENT = (
    "&socketTimeoutMS=2500&connectTimeoutMS=1000&serverSelectionTimeoutMS=1000&heartbeatFrequencyMS=500"
)


# -- failing at the start: one line, exit code 1 ---------------------------------------------------


@dataclass
class Ended:
    """How a server ended that could not start."""

    code: int
    message: str
    """The last line on stderr, without the program's name."""


def failing(*arguments: str, environment: dict[str, str] | None = None) -> Ended:
    """Run a server that has to fail, with every warning an error, and check how it says so."""
    command = [sys.executable, "-W", "error", str(ROOT / "server.py"), "--host", "127.0.0.1", "--port", "0"]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert SECRET not in done.stderr + done.stdout
    assert done.stdout == ""
    *before, last = done.stderr.splitlines()
    for line in before:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO ", line), (
            f"more than one line: {done.stderr}"
        )
    assert last.startswith("babbling-brook: "), done.stderr
    message = last.removeprefix("babbling-brook: ")
    assert len(message) < 400
    return Ended(done.returncode, message)


def check_failing(*arguments: str, says: str) -> None:
    ended = failing(*arguments)
    assert ended.code == 1
    assert re.search(says, ended.message), ended.message


@pytest.fixture(scope="module")
def standalone(tmp_path_factory):
    with running(Node(tmp_path_factory.mktemp("standalone") / "node", replica_set="")) as node:
        yield node


@pytest.fixture(scope="module")
def uninitiated(tmp_path_factory):
    with running(Node(tmp_path_factory.mktemp("uninitiated") / "node")) as node:
        yield node


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A replica set that wants a user and a password."""
    users = {
        "nobody": [],
        "stranger": [{"role": "read", "db": "elsewhere"}],
        "reader": [{"role": "read", "db": "babblingBrook"}],
    }
    with mongods.guarded(tmp_path_factory.mktemp("guarded"), SECRET, users) as (node, _):
        yield node


def test_unreachable_server_is_named():
    port = free_port()
    uri = f"mongodb://alice:{SECRET}@127.0.0.1:{port}/?serverSelectionTimeoutMS=300"
    check_failing("--mongo", uri, says=f"cannot reach MongoDB at 127.0.0.1:{port}: check that it runs")
    several = f"mongodb://127.0.0.1:{port},127.0.0.1:1/?replicaSet=x&serverSelectionTimeoutMS=300"
    check_failing("--mongo", several, says=f"(127.0.0.1:{port}|, |127.0.0.1:1)+: check that it runs")


def test_server_that_accepts_and_says_nothing_is_named(sandbox):
    with Proxy(sandbox.nodes[0].port) as proxy:
        proxy.freeze()
        uri = f"{proxy.uri}&serverSelectionTimeoutMS=500&connectTimeoutMS=300"
        check_failing("--mongo", uri, says=f"cannot reach MongoDB at 127.0.0.1:{proxy.port}")


MALFORMED = (
    "mongodb://", "mongodb:/localhost", "http://localhost", "localhost:port",
    f"mongodb://alice:{SECRET}", f"mongodb://alice:{SECRET}@", f"mongodb://alice:{SECRET}/",
    f"mongodb://alice:{SECRET}@x@127.0.0.1:1/", f"mongodb://alice:x@{SECRET}@127.0.0.1:1/",
    f"mongodb://alice:{SECRET}:x@127.0.0.1:1/", f"mongodb://alice:x:{SECRET}@127.0.0.1:1/",
    f"mongodb://alice:{SECRET}/x@127.0.0.1:1/", f"mongodb://alice:x/{SECRET}@127.0.0.1:1/",
    f"mongodb://alice:12/{SECRET}@127.0.0.1:1/", f"mongodb://alice:{SECRET}%@127.0.0.1:1/",
    f"mongodb://alice:x?{SECRET}=1@127.0.0.1:1/", f"mongodb://alice:1/x?{SECRET}=1@127.0.0.1:1/",
    f"mongodb://alice:x?y={SECRET}@127.0.0.1:1/", f"mongodb://alice:{SECRET}@127.0.0.1:99999/",
    "mongodb://127.0.0.1:99999/", "mongodb://127.0.0.1:port/", "mongodb://[::1/",
    f"mongodb://alice:{SECRET}@127.0.0.1:1/?authSource", f"mongodb+srv://alice:{SECRET}@127.0.0.1/",
)  # fmt: skip


def refused(uri: str) -> str:
    """Why a source cannot be opened, without a process around it; a warning would be an error here, too."""

    async def scenario() -> None:
        source = MongoSource(uri, Settings())
        try:
            await source.open()
        finally:
            await source.close()

    with pytest.raises(OperatorError) as refusal:
        asyncio.run(scenario())
    message = str(refusal.value)
    assert SECRET not in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("uri", MALFORMED, ids=lambda uri: uri.replace("/", "|"))
def test_malformed_uri_is_explained_and_never_repeated(uri):
    assert refused(uri).startswith("the MongoDB URI is malformed: it reads mongodb://")


@pytest.mark.parametrize("uri", MALFORMED, ids=lambda uri: uri.replace("/", "|"))
def test_no_piece_of_a_malformed_uri_becomes_a_complaint_about_the_database(uri):
    """It would be repeated on the command line. The source complains of the URI as such."""
    assert Settings(database=named_database(uri) or "brook")


def test_name_that_dns_does_not_know_is_not_called_malformed():
    for host in ("nowhere.invalid", "localhost"):
        uri = f"mongodb+srv://alice:{SECRET}@{host}/"
        assert refused(uri).startswith("the name in the mongodb+srv:// URI cannot be found")


def test_malformed_uri_ends_the_server():
    check_failing("--mongo", f"mongodb://alice:x@{SECRET}@127.0.0.1:1/", says="the MongoDB URI is malformed")


INVALID_OPTIONS = {
    "unknownOption=1": "unknownOption",
    "tls=maybe": "tls",
    "authMechanism=NOPE": "authMechanism",
    "socketTimeoutMS=soon": "socketTimeoutMS",
    "readPreference=nobody": "readPreference",
    "heartbeatFrequencyMS=1": "heartbeatFrequencyMS",
    "tlsCAFile=/nowhere": "tlsCAFile",
    "appName=a&appName=b": "appName",
    # The tags alone are invalid, too, since they need another preference than the default.
    "readPreferenceTags=a:b&unknownOption=1&readPreference=secondary": "unknownOption",
    "loadBalanced=true&replicaSet=x": "loadBalanced, replicaSet",
    "ssl=false&tls=true": "ssl, tls",
    "tls=maybe&appName=a&unknownOption=1": "tls, unknownOption",
    # It may be the rest of a password that has an `&` in it.
    f"appName=a&{SECRET}=1": "number 2",
}


@pytest.mark.parametrize(("options", "names"), INVALID_OPTIONS.items(), ids=INVALID_OPTIONS.values())
def test_invalid_option_of_the_uri_is_named_and_its_value_is_not(options, names):
    message = refused(f"mongodb://alice:{SECRET}@127.0.0.1:1/?{options}")
    several = "options that are invalid, or exclude each other" if ", " in names else "an invalid option"
    assert (
        message.removeprefix(f"the MongoDB URI has {several}: ").removesuffix(
            " (check its name and its value)"
        )
        == names
    )


def test_value_of_an_invalid_option_is_never_repeated():
    names = refused(f"mongodb://127.0.0.1:1/?unknownOption={SECRET}").partition(": ")[2]
    assert names == "unknownOption (check its name and its value)"
    assert "several invalid options" in refused(f"mongodb://127.0.0.1:1/?a={SECRET}&b={SECRET}&c={SECRET}")


def test_invalid_option_of_the_uri_ends_the_server():
    """With every warning an error: the driver only warns of an option that it does not know."""
    uri = f"mongodb://alice:{SECRET}@127.0.0.1:1/?unknownOption=1"
    check_failing("--mongo", uri, says="an invalid option: unknownOption")


@pytest.mark.parametrize(
    "query", ["", "?directConnection=true", "?replicaSet=rs0&serverSelectionTimeoutMS=500"]
)
def test_standalone_is_told_how_to_become_a_replica_set(standalone, query):
    uri = f"mongodb://127.0.0.1:{standalone.port}/{query}"
    check_failing("--mongo", uri, says=r"standalone.*--replSet rs0.*rs\.initiate\(\)")


@pytest.mark.parametrize("query", ["", "directConnection=true&", "replicaSet=sandbox&"])
def test_replica_set_that_was_not_initiated_is_told_so(uninitiated, query):
    uri = f"mongodb://127.0.0.1:{uninitiated.port}/?{query}serverSelectionTimeoutMS=500"
    check_failing("--mongo", uri, says=r"not set up yet: run rs\.initiate\(\)")


def test_wrong_name_of_the_replica_set_is_named(sandbox):
    uri = f"mongodb://127.0.0.1:{sandbox.nodes[0].port}/?replicaSet=wrong&serverSelectionTimeoutMS=500"
    check_failing("--mongo", uri, says="no member of the replica set 'wrong'.*replicaSet=")


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ("", "user and a password"),
        ("reader:wrong@", "refused the user or the password"),
        (f"unknown:{SECRET}@", "refused the user or the password"),
        (f"nobody:{SECRET}@", 'may not watch the database babblingBrook.*role: "read", db: "babblingBrook"'),
        (f"stranger:{SECRET}@", "may not watch the database babblingBrook"),
    ],
    ids=["no user", "wrong password", "unknown user", "no role", "role elsewhere"],
)
def test_missing_rights_are_named(guarded, user, says):
    check_failing("--mongo", f"mongodb://{user}127.0.0.1:{guarded.port}/", says=says)


def test_several_databases_need_a_right_to_all_of_them(guarded):
    uri = f"mongodb://reader:{SECRET}@127.0.0.1:{guarded.port}/"
    check_failing("--mongo", uri, "--namespace", "elsewhere.ponds", says="readAnyDatabase")


def test_right_to_read_the_database_is_enough(guarded, start_server):
    """Nothing that the source asks for needs more: to start, to follow, to replay, to reset."""
    host = f"127.0.0.1:{guarded.port}"
    server = start_server(
        "--mongo", f"mongodb://reader:{SECRET}@{host}/", "--history-max-bytes=0", "--cors-origin="
    )

    async def scenario() -> None:
        uri = f"mongodb://root:{SECRET}@{host}/?directConnection=true"
        with pymongo.MongoClient(uri) as client, ExitStack() as stack:
            creatures = client.babblingBrook.creatures.with_options(write_concern=WriteConcern("majority"))
            first = stack.enter_context(closing(await opened(server)))
            creatures.insert_many([{"_id": 1}, {"_id": 2}])
            ids = [(await first.next()).id for _ in range(2)]
            again = stack.enter_context(closing(await opened(server, ids[0])))
            assert (await again.next()).data == '{"_id":2}'
            lost = stack.enter_context(closing(await opened(server, ids[0] + "00")))
            assert (await lost.next()).event == "reset"
        assert not [line for line in server.log if SECRET in line or " ERROR " in line or " WARNING " in line]

    asyncio.run(scenario())


def test_port_in_use_is_named(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        check_failing("--demo", "--port", port, says=f"port {port} is in use: .*--port")
        check_failing("--mongo", sandbox.uri, "--port", port, says=f"port {port} is in use: .*--port")


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "2001:db8::7"])
def test_host_that_is_not_here_is_named(host):
    check_failing("--demo", "--host", host, says=f"--host '{host}' is not an address of this machine")


def test_uri_from_the_environment_fails_as_clearly():
    environment = os.environ | {"BROOK_MONGO": f"mongodb://alice:{SECRET}@x@y"}
    ended = failing(environment=environment)
    assert ended.code == 1
    assert "malformed" in ended.message


# -- failing on the way: nothing is lost, and everybody is told ------------------------------------


@pytest.fixture(scope="module")
def shaky():
    """A replica set of one node that these tests freeze, kill and start again."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def pond(shaky):
    """A database on it, by a connection of the test's own."""
    with pymongo.MongoClient(shaky.uri) as client:
        yield client.get_database("pond", write_concern=WriteConcern("majority"))
        client.drop_database("pond")


async def opened(server: ServerProcess, last_id: str = "") -> RawClient:
    return await (await RawClient(server.port, last_id=last_id).connect()).opened()


async def hear(client: RawClient, last: int) -> list[int]:
    """The `_id`s that a client receives, up to the one given."""
    heard: list[int] = []
    while not heard or heard[-1] != last:
        event = await client.next(60)
        if event.event == "feed":
            continue  # a long interruption, or its end
        assert event.event == "message", event
        heard.append(json.loads(event.data)["_id"])
    return heard


def readiness(server: ServerProcess) -> tuple[int, list[str]]:
    try:
        with urllib.request.urlopen(f"{server.url}/readyz") as answer:
            return answer.status, json.load(answer)["reasons"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["reasons"]


async def until_ready(server: ServerProcess, ready: bool) -> list[str]:
    """Wait until the server says that it is, or is not; its reasons."""
    async with asyncio.timeout(60):
        while True:
            status, reasons = await asyncio.to_thread(readiness, server)
            if status == (200 if ready else 503):
                assert bool(reasons) is not ready
                return reasons
            await asyncio.sleep(0.05)


def lines(server: ServerProcess, pattern: str) -> list[str]:
    return [line for line in server.log if re.search(pattern, line)]


def insert(pond, *numbers: int) -> None:
    pond.creatures.insert_many([{"_id": number} for number in numbers])


def check_interrupted_once(server: ServerProcess, times: int = 1) -> None:
    """One line when it stopped, one when it went on, and no traceback."""
    assert len(lines(server, "WARNING the change stream is interrupted, trying again: ")) == times
    assert len(lines(server, "INFO the change stream goes on")) == times
    assert not lines(server, "Traceback|ERROR")


@pytest.mark.parametrize("how", ["frozen", "cut"])
def test_network_that_fails_loses_nothing(shaky, pond, start_server, how):
    with Proxy(shaky.nodes[0].port) as proxy:
        server = start_server("--mongo", proxy.uri + IMPATIENT, "--database", "pond")

        async def scenario() -> None:
            with closing(await opened(server)) as client:
                insert(pond, 1, 2)
                assert await hear(client, 2) == [1, 2]
                proxy.freeze() if how == "frozen" else proxy.cut()
                insert(pond, 3, 4, 5)
                [reason] = await until_ready(server, False)
                assert reason
                insert(pond, 6)
                # Those who come meanwhile are let in: what is missing will come.
                with closing(await opened(server, client.events[0].id)) as other:
                    assert await hear(other, 2) == [2]
                    proxy.thaw()
                    proxy.restore()
                    assert await hear(client, 6) == [3, 4, 5, 6]
                    assert await hear(other, 6) == [3, 4, 5, 6]
                await until_ready(server, True)
                insert(pond, 7)
                assert await hear(client, 7) == [7]

        asyncio.run(scenario())
        check_interrupted_once(server)


def test_network_that_hiccups_loses_nothing_and_nobody_notices(shaky, pond, start_server):
    with Proxy(shaky.nodes[0].port) as proxy:
        server = start_server("--mongo", proxy.uri, "--database", "pond")

        async def scenario() -> None:
            with closing(await opened(server)) as client:
                for number in range(0, 100, 2):
                    insert(pond, number)
                    if number % 10 == 0:
                        proxy.cut()
                        proxy.restore()
                    insert(pond, number + 1)
                assert await hear(client, 99) == list(range(100))
                await until_ready(server, True)

        asyncio.run(scenario())
        assert not lines(server, "Traceback|ERROR")


def test_replay_goes_on_after_the_network_failed_in_the_middle_of_it(shaky, pond, start_server):
    with Proxy(shaky.nodes[0].port) as proxy:
        options = ("--history-max-bytes", "0", "--warm-up-seconds", "0", "--queue-max-bytes", "99999999")
        server = start_server("--mongo", proxy.uri + IMPATIENT, "--database", "pond", *options)

        async def scenario() -> None:
            with closing(await opened(server)) as client:
                insert(pond, -1)
                await hear(client, -1)
                for start in range(0, 20_000, 1000):
                    pond.creatures.insert_many(
                        [{"_id": n, "filler": "x" * 400} for n in range(start, start + 1000)]
                    )
                await hear(client, 19_999)
                place = client.events[0].id
            with closing(await opened(server, place)) as client:
                heard = await hear(client, 500)
                for _ in range(5):
                    proxy.cut()
                    await asyncio.sleep(0.05)
                    proxy.restore()
                    heard += await hear(client, heard[-1] + 500)
                heard += await hear(client, 19_999)
                assert heard == list(range(20_000))

        asyncio.run(scenario())
        assert not lines(server, "Traceback|ERROR")


def test_mongod_that_is_killed_and_comes_back_loses_nothing(shaky, pond, start_server):
    server = start_server("--mongo", shaky.uri + IMPATIENT, "--database", "pond")
    [node] = shaky.nodes

    async def scenario() -> None:
        with closing(await opened(server)) as client:
            insert(pond, 1)
            await hear(client, 1)
            node.stop(signal.SIGKILL)
            await until_ready(server, False)
            node.start()
            node.wait()
            shaky.primary()
            insert(pond, 2, 3)
            assert await hear(client, 3) == [2, 3]
            await until_ready(server, True)
        with closing(await opened(server, client.events[0].id)) as client:
            assert await hear(client, 3) == [2, 3]

    asyncio.run(scenario())
    check_interrupted_once(server)


def test_clients_are_told_of_a_long_interruption_and_of_its_end(shaky, pond, start_server):
    server = start_server("--mongo", shaky.uri + IMPATIENT, "--database", "pond")
    [node] = shaky.nodes

    async def scenario() -> None:
        with closing(await opened(server)) as client:
            node.stop(signal.SIGKILL)
            told = await client.next()
            assert (told.event, told.data) == ("feed", '{"state":"interrupted"}')
            with closing(await opened(server)) as newcomer:
                assert (await newcomer.next()).data == '{"state":"interrupted"}'
                node.start()
                node.wait()
                shaky.primary()
                for each in (client, newcomer):
                    told = await each.next()
                    assert (told.event, told.data) == ("feed", '{"state":"live"}')
                insert(pond, 1)
                assert (await hear(client, 1), await hear(newcomer, 1)) == ([1], [1])

    asyncio.run(scenario())


# -- a log that is over too soon -------------------------------------------------------------------


@pytest.fixture
def forgetful():
    """A replica set whose log is soon over: it holds a megabyte, and what was not saved for a second."""
    with Sandbox(options=("--oplogSize", "1", "--syncdelay", "1")) as sandbox:
        yield sandbox


@pytest.fixture
def puddle(forgetful):
    """A database on it, with more in it than MongoDB's usual first reply to a change stream has."""
    with pymongo.MongoClient(forgetful.uri) as client:
        puddle = client.get_database("puddle", write_concern=WriteConcern("majority"))
        insert(puddle, *range(500))
        yield puddle


def present(database) -> Position:
    time = database.client.admin.command("ping")["operationTime"]
    return resume_token.checkpoint((time.time, time.inc))


def overtake(database) -> None:
    """Write elsewhere until the log has forgotten all that it holds now."""
    now = database.client.admin.command("ping")["operationTime"]
    log = database.client.local["oplog.rs"]
    while log.find_one(sort=[("$natural", 1)])["ts"] <= now:
        database.client.elsewhere.filler.insert_many([{"filler": "x" * 10_000} for _ in range(50)])


class Late(MongoSource):
    """Much happens before it reads what it has opened."""

    def __init__(self, uri: str, settings: Settings, meanwhile: Callable[[], None]) -> None:
        super().__init__(uri, settings)
        self._meanwhile = meanwhile

    async def past(self) -> AsyncIterator[Batch]:
        await asyncio.to_thread(self._meanwhile)
        async for batch in super().past():
            yield batch


@asynccontextmanager
async def served(source: MongoSource, settings: Settings) -> AsyncIterator[None]:
    """`server.py` around a source: it listens, and goes on."""
    serving = asyncio.create_task(serve(settings, source))
    try:
        async with asyncio.timeout(30):
            while True:
                assert not serving.done(), serving.exception()
                with suppress(OSError):
                    (await RawClient(settings.port).connect()).close()
                    break
                await asyncio.sleep(0.02)
        yield
        assert not serving.done()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def test_log_that_overtakes_the_warm_up_does_not_end_the_server(forgetful, puddle, monkeypatch):
    """And those who come back are told, or served from the log: the memory begins after their places."""
    # The first reply comes when the stream is opened: with a limit, not all is in it.
    read = Cursor.read
    monkeypatch.setattr(Cursor, "read", lambda cursor, _=None, *more: read(cursor, 101, *more))
    settings = Settings(database="puddle", host="127.0.0.1", port=free_port())
    lost = present(puddle)
    places: list[Position] = []

    def meanwhile() -> None:
        overtake(puddle)
        places.append(present(puddle))
        insert(puddle, 1000, 1001)
        # The present is the time of the last write, and what was written then would be in the memory.
        puddle.client.elsewhere.filler.insert_one({})

    async def come(place: Position | None = None) -> RawClient:
        client = RawClient(settings.port, last_id=place.id if place else "")
        return await (await client.connect()).opened()

    async def scenario() -> None:
        async with served(Late(forgetful.uri, settings, meanwhile), settings):
            with ExitStack() as stack:
                new = stack.enter_context(closing(await come()))
                insert(puddle, 1002)
                assert await hear(new, 1002) == [1002]
                late = stack.enter_context(closing(await come(places[0])))
                assert await hear(late, 1002) == [1000, 1001, 1002]
                reset = stack.enter_context(closing(await come(lost)))
                assert json.loads((await reset.next()).data) == {"reason": "history-lost", "since": lost.id}
                insert(puddle, 1003)
                for client in (new, late, reset):
                    assert await hear(client, 1003) == [1003]

    asyncio.run(scenario())


class When(logging.Handler):
    """Does something in the moment in which a certain line is logged."""

    def __init__(self, words: str, do: Callable[[], None]) -> None:
        super().__init__()
        self._words = words
        self._do = do

    def emit(self, record: logging.LogRecord) -> None:
        if self._words in record.getMessage():
            self._do()


def interruptions(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of the live stream's state."""
    return re.findall("is interrupted|goes on", caplog.text)


def test_gap_that_cannot_be_left_behind_at_once_is_trouble(forgetful, puddle, caplog):
    """The database goes away in the moment in which the gap is found."""
    caplog.set_level(logging.INFO)

    async def scenario(proxy: Proxy) -> None:
        source = MongoSource(proxy.uri + IMPATIENT, Settings(database="puddle"))
        await source.open()
        overtake(puddle)
        resets: list[Event] = []

        async def read() -> None:
            async for batch in source.events():
                resets.extend(event for event in batch.events if isinstance(event, Reset))

        reading = asyncio.create_task(read())
        try:
            await until(lambda: "every client is reset" in caplog.text)
            await until(lambda: source.interruption is not None)
            assert (interruptions(caplog)[0], resets) == ("is interrupted", [])
            proxy.restore()
            await until(lambda: source.interruption is None)
            assert (interruptions(caplog)[-1], len(resets)) == ("goes on", 1)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await source.close()

    logger = logging.getLogger("sources.mongo.source")
    with Proxy(forgetful.nodes[0].port) as proxy:
        cut = When("every client is reset", proxy.cut)
        logger.addHandler(cut)
        try:
            asyncio.run(scenario(proxy))
        finally:
            logger.removeHandler(cut)


def test_replay_that_cannot_begin_says_nothing_of_the_live_stream(shaky, pond, caplog):
    caplog.set_level(logging.INFO)

    async def scenario(proxy: Proxy) -> None:
        source = MongoSource(f"{proxy.uri}&serverSelectionTimeoutMS=100", Settings(database="pond"))
        await source.open()
        place = present(pond)
        proxy.cut()
        try:
            async with aclosing(source.replay(place)) as batches:
                beginning = asyncio.create_task(begin(batches))
                # Long enough to have failed several times.
                done, _ = await asyncio.wait([beginning], timeout=1)
                proxy.restore()
                await asyncio.wait_for(beginning, 20)
                assert not done
                assert source.interruption is None
        finally:
            await source.close()

    async def begin(batches: AsyncIterator[Batch]) -> None:
        await anext(batches)

    with Proxy(shaky.nodes[0].port) as proxy:
        asyncio.run(scenario(proxy))
    assert interruptions(caplog) == []


# -- stopping --------------------------------------------------------------------------------------


async def goodbye(client: RawClient) -> Received:
    """The last event of a stream, which ends properly."""
    async with asyncio.timeout(30):
        while await client.read():
            pass
    return client.events[-1]


@contextmanager
def suspended(pid: int | None) -> Iterator[None]:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("state", ["idle", "interrupted", "frozen", "writing"])
def test_stopping_says_goodbye_to_all_and_exits_0(shaky, pond, start_server, number, state):
    drain_seconds = 3
    # A frozen database is noticed after a while; it is to be stopped before that.
    patience = "" if state == "frozen" else IMPATIENT

    async def scenario(server: ServerProcess, proxy: Proxy) -> float:
        with ExitStack() as stack:
            clients = [stack.enter_context(closing(await opened(server))) for _ in range(20)]
            # And one for whom the log is read on, since the last second is not over in it yet.
            clients.append(
                stack.enter_context(closing(await opened(server, f"t{int(time.time())}.{2**32 - 1}")))
            )
            if state == "interrupted":
                proxy.cut()
                await until_ready(server, False)
            if state == "frozen":
                stack.enter_context(suspended(shaky.nodes[0].pid))
            if state == "writing":
                stack.enter_context(writing(pond))
            stopping = asyncio.create_task(asyncio.to_thread(timed_stop, server, number))
            for client in clients:
                bye = await goodbye(client)
                assert (bye.event, json.loads(bye.data)) == ("bye", {"reason": "shutdown"})
                assert client.parser.retry is not None
                assert 500 <= client.parser.retry <= 1500
            code, seconds = await stopping
            assert code == 0
            return seconds

    with Proxy(shaky.nodes[0].port) as proxy:
        server = start_server(
            "--mongo", proxy.uri + patience, "--database", "pond", "--retry-ms", "1000",
            "--drain-seconds", str(drain_seconds),
        )  # fmt: skip
        assert asyncio.run(scenario(server, proxy)) < drain_seconds + 5
        assert lines(server, "stopping: 21 clients")
        assert not lines(server, "Traceback|ERROR")


def timed_stop(server: ServerProcess, number: signal.Signals) -> tuple[int, float]:
    start = time.monotonic()
    return server.stop(number, seconds=60), time.monotonic() - start


@contextmanager
def writing(pond) -> Iterator[None]:
    """A writer that goes on all the time."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            pond.creatures.insert_many([{} for _ in range(20)])
            time.sleep(0.005)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["unreachable", "silent"])
def test_stopping_while_it_starts_exits_0_at_once(sandbox, number, where):
    with Proxy(sandbox.nodes[0].port) as proxy:
        proxy.cut() if where == "unreachable" else proxy.freeze()
        server = subprocess.Popen(
            [sys.executable, "-W", "error", str(ROOT / "server.py"), "--port", "0", "--mongo", proxy.uri],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with server:
            until = time.monotonic() + 30
            while not proxy.accepted:
                assert time.monotonic() < until
                time.sleep(0.01)
            start = time.monotonic()
            server.send_signal(number)
            assert server.wait(30) == 0
            # Sooner than the driver would have given up.
            assert time.monotonic() - start < 4
            assert server.stderr is not None
            assert server.stderr.read() == ""


def test_stopping_while_the_history_is_being_filled_exits_0(shaky, pond):
    with Proxy(shaky.nodes[0].port) as proxy:
        server = ServerProcess("--mongo", proxy.uri, "--database", "pond")
        # The first reply to the change stream's cursor never comes.
        starting = threading.Thread(target=swallow, args=(server.start,))
        starting.start()
        until = time.monotonic() + 30
        while not lines(server, "opening the change stream of pond.creatures"):
            assert time.monotonic() < until
            time.sleep(0.001)
        proxy.freeze()
        code, seconds = timed_stop(server, signal.SIGTERM)
        starting.join()
        assert code == 0
        assert seconds < 10
        assert not lines(server, "Traceback|ERROR")


def swallow(start) -> None:
    """Start a server that never listens."""
    with pytest.raises(AssertionError, match="the server ended"):
        start()
