"""A client that comes back gets what it missed: once, in order, from memory or from the log."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pymongo
import pytest
from bson import Decimal128, Int64, ObjectId, Timestamp
from pymongo import WriteConcern

from brook.changes import resume_token
from brook.errors import InvalidId
from sources.sandbox import Node, Sandbox
from tests.support.processes import ServerProcess
from tests.support.proxy import Proxy
from tests.support.raw_client import Parser, RawClient, Received

# Everything this module's tests write is numbered, over all of them.
NUMBERS = iter(range(10**9))


@pytest.fixture(scope="module")
def waters(sandbox):
    """The database that this module's servers watch."""
    with pymongo.MongoClient(sandbox.uri) as client:
        yield client.get_database("resume", write_concern=WriteConcern("majority"))
        client.drop_database("resume")


def module_server(sandbox: Sandbox, *options: str) -> Iterator[ServerProcess]:
    server = ServerProcess("--mongo", sandbox.uri, "--database", "resume", "--collection", "*", *options)
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def from_memory(sandbox, waters):
    """A server that remembers everything that these tests write."""
    yield from module_server(sandbox)


@pytest.fixture(scope="module")
def from_log(sandbox, waters):
    """A server that remembers nothing, and has to replay the log."""
    yield from module_server(sandbox, "--history-max-bytes", "0", "--warm-up-seconds", "0")


@pytest.fixture(params=["from_memory", "from_log"])
def server(request) -> ServerProcess:
    """Each of the two."""
    return request.getfixturevalue(request.param)


async def opened(server: ServerProcess, last_id: str = "", path: str = "/stream") -> RawClient:
    return await (await RawClient(server.port, path, last_id=last_id).connect()).opened()


def write(waters, count: int, **fields: object) -> list[int]:
    """Insert documents with the next numbers, several at a time; the numbers."""
    numbers = [next(NUMBERS) for _ in range(count)]
    for start in range(0, count, 100):
        waters.creatures.insert_many([{"number": n, **fields} for n in numbers[start : start + 100]])
    return numbers


async def hear(client: RawClient, last: int, seconds: float = 60) -> list[int]:
    """The numbers that a client receives, up to the one given."""
    heard: list[int] = []
    while not heard or heard[-1] != last:
        event = await client.next(seconds)
        assert event.event == "message", event
        heard.append(json.loads(event.data)["number"])
    return heard


async def present(server: ServerProcess, waters) -> RawClient:
    """A client that has just heard the newest document: all that was before is behind the server."""
    client = await opened(server)
    await hear(client, write(waters, 1)[0])
    client.events.clear()
    return client


async def record(server: ServerProcess, waters, count: int, **fields: object) -> tuple[list[int], list[str]]:
    """Write documents while a client listens: their numbers and their ids."""
    with closing(await present(server, waters)) as client:
        numbers = write(waters, count, **fields)
        assert await hear(client, numbers[-1]) == numbers
        return numbers, [event.id for event in client.events]


async def all_heard(server: ServerProcess, waters) -> int:
    """Wait until the server has published all that was written; the number of one more document."""
    with closing(await opened(server)) as client:
        number = write(waters, 1)[0]
        await hear(client, number)
        return number


def time_of(id: str) -> resume_token.ClusterTime:
    return resume_token.cluster_time(resume_token.position(id).key)


def checkpoint_after(id: str) -> str:
    return resume_token.checkpoint(time_of(id)).id


@pytest.mark.parametrize("way", ["header", "parameter"])
@pytest.mark.parametrize("kind", ["event id", "checkpoint id"])
def test_client_comes_back_to_what_it_missed(server, waters, way, kind):
    async def scenario() -> None:
        _, ids = await record(server, waters, 5)
        missed = write(waters, 5)
        place = ids[-1] if kind == "event id" else checkpoint_after(ids[-1])
        came = {"last_id": place} if way == "header" else {"path": f"/stream?since={place}"}
        with closing(await opened(server, **came)) as client:
            assert await hear(client, missed[-1]) == missed
            now = write(waters, 3)
            assert await hear(client, now[-1]) == now

    asyncio.run(scenario())


def test_header_goes_before_the_parameter_as_a_browser_sends_both(server, waters):
    async def scenario() -> None:
        numbers, ids = await record(server, waters, 6)
        with closing(await opened(server, ids[3], f"/stream?since={ids[0]}")) as client:
            assert await hear(client, numbers[-1]) == numbers[4:]

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["event id", "checkpoint id"])
def test_client_that_missed_nothing_gets_only_what_is_new(server, waters, kind):
    async def scenario() -> None:
        _, ids = await record(server, waters, 3)
        place = ids[-1] if kind == "event id" else checkpoint_after(ids[-1])
        with closing(await opened(server, place)) as client:
            new = write(waters, 2)
            assert await hear(client, new[-1]) == new

    asyncio.run(scenario())


def test_keep_alive_of_an_idle_client_is_a_place_to_come_back_to(sandbox, waters, start_server):
    server = start_server("--mongo", sandbox.uri, "--database", "resume", "--heartbeat-seconds", "0.2")

    async def scenario() -> None:
        with closing(await opened(server)) as client:
            numbers = write(waters, 1)
            await hear(client, numbers[-1])
            waters.elsewhere.insert_one({})
            async with asyncio.timeout(20):
                while "-" in client.parser.last_id:
                    assert await client.read()
        place = client.parser.last_id
        assert resume_token.position(place) > resume_token.position(client.events[-1].id)
        missed = write(waters, 3)
        with closing(await opened(server, place)) as client:
            assert await hear(client, missed[-1]) == missed

    asyncio.run(scenario())


def test_many_clients_come_back_to_different_places_at_once(server, waters):
    async def scenario() -> None:
        numbers, ids = await record(server, waters, 1500)
        chance = random.Random(7)
        places = [chance.randrange(len(ids) - 1) for _ in range(60)]

        async def one(place: int) -> None:
            came = checkpoint_after(ids[place]) if place % 2 else ids[place]
            end = resume_token.position(came)
            first = sum(resume_token.position(id) <= end for id in ids) if place % 2 else place + 1
            with closing(await opened(server, came)) as client:
                assert await hear(client, numbers[-1]) == numbers[first:]

        await asyncio.gather(*map(one, places))

    asyncio.run(scenario())


def test_replay_goes_over_to_live_while_a_writer_goes_on(server, waters):
    """Numbered documents, thirty clients that come back to the beginning one after the other."""
    stop = threading.Event()
    written: list[int] = []

    def work() -> None:
        while not stop.is_set():
            written.extend(write(waters, 5))
            time.sleep(0.005)  # thirty clients in this one process read all that is written

    async def scenario() -> None:
        start, ids = await record(server, waters, 300)
        worker = threading.Thread(target=work)
        worker.start()
        try:
            with ExitStack() as stack:
                clients = []
                for _ in range(30):
                    clients.append(stack.enter_context(closing(await opened(server, ids[0]))))
                    await asyncio.sleep(0.03)
                stop.set()
                await asyncio.to_thread(worker.join)
                written.extend(write(waters, 1))
                for client in clients:
                    assert await hear(client, written[-1]) == start[1:] + written
        finally:
            stop.set()
            worker.join()

    asyncio.run(scenario())


def transaction(waters, count: int, **fields: object) -> list[int]:
    """Insert documents that all get the same cluster time."""
    numbers = [next(NUMBERS) for _ in range(count)]
    with waters.client.start_session() as session, session.start_transaction():
        documents = [{"number": n, **fields} for n in numbers]
        waters.creatures.insert_many(documents, session=session)
    return numbers


def test_transaction_is_taken_up_in_the_middle_by_the_id_of_one_of_its_changes(server, waters):
    async def scenario() -> None:
        with closing(await present(server, waters)) as client:
            numbers = transaction(waters, 40)
            after = write(waters, 1)
            await hear(client, after[-1])
        ids = [event.id for event in client.events]
        assert len(set(map(time_of, ids[:40]))) == 1
        for cut in (0, 17, 38, 39):
            with closing(await opened(server, ids[cut])) as again:
                assert await hear(again, after[-1]) == (numbers + after)[cut + 1 :]
        # The checkpoint of its time is after all of it.
        with closing(await opened(server, checkpoint_after(ids[0]))) as again:
            assert await hear(again, after[-1]) == after

    asyncio.run(scenario())


class SlowReader:
    """A client that lets the server wait: it reads only when it is told to, and buffers little."""

    def __init__(self, port: int, last_id: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", port))
        # HTTP/1.0: nothing around the body's bytes.
        self._socket.sendall(f"GET /stream HTTP/1.0\r\nLast-Event-ID: {last_id}\r\n\r\n".encode())
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():
            pass
        self._parser = Parser()

    def hear(self, last: int) -> list[int]:
        """Read numbers until the one given or one after it."""
        heard: list[int] = []
        while not heard or heard[-1] < last:
            data = self._file.read1(65536)
            assert data, f"the stream ended after {heard[-3:]}"
            for event in self._parser.feed(data):
                assert event.event == "message", event
                heard.append(json.loads(event.data)["number"])
        return heard

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.mark.parametrize("memory", [0, 2**26], ids=["live", "memory"])
def test_slow_reader_gets_all_in_order_once_it_reads_on(sandbox, waters, start_server, memory):
    """Whether it was live when it stopped, or coming back: what waits for it stays in order."""
    server = start_server(
        "--mongo", sandbox.uri, "--database", "resume", "--queue-max-bytes", str(2**26),
        "--history-max-bytes", str(memory),
    )  # fmt: skip
    _, ids = asyncio.run(record(server, waters, 1))
    with closing(SlowReader(server.port, ids[0])) as reader:
        numbers = write(waters, 2500, filler="x" * 4000)
        numbers.append(asyncio.run(all_heard(server, waters)))
        # It reads on in steps, with pauses in which its socket runs full again.
        heard: list[int] = []
        for part in (500, 1000, 1500):
            heard += reader.hear(numbers[part])
            numbers += write(waters, 2, filler="y" * 100)
        heard += reader.hear(numbers[-1])
        assert heard == numbers


def test_slow_reader_gets_all_of_a_transaction_that_is_replayed_in_parts(sandbox, waters, start_server):
    """All its changes have one cluster time, and MongoDB needs several replies for them."""
    server = start_server(
        "--mongo", sandbox.uri, "--database", "resume", "--queue-max-bytes", str(2**26),
        "--history-max-bytes", "0", "--warm-up-seconds", "0",
    )  # fmt: skip
    _, ids = asyncio.run(record(server, waters, 1))
    numbers = transaction(waters, 4600, filler="x" * 4000)
    numbers.append(asyncio.run(all_heard(server, waters)))
    with closing(SlowReader(server.port, ids[0])) as reader:
        # Longer than a replay waits for its slowest readers: it goes on without this one.
        time.sleep(1.5)
        assert reader.hear(numbers[-1]) == numbers


def test_slow_reader_gets_all_of_a_transaction_that_the_memory_lost_meanwhile(sandbox, waters, start_server):
    server = start_server(
        "--mongo", sandbox.uri, "--database", "resume", "--queue-max-bytes", str(2**26),
        "--history-max-bytes", str(20 * 2**20),
    )  # fmt: skip
    _, ids = asyncio.run(record(server, waters, 1))
    numbers = transaction(waters, 3500, filler="x" * 4000)
    numbers.append(asyncio.run(all_heard(server, waters)))
    with closing(SlowReader(server.port, ids[0])) as reader:
        # Pushes the transaction out of the memory while this reader is in the middle of it.
        numbers += write(waters, 6000, filler="x" * 4000)
        numbers.append(asyncio.run(all_heard(server, waters)))
        assert reader.hear(numbers[-1]) == numbers


ODD_IDS = [
    1, Int64(2), 3.0, 3.5, -0.0, Decimal128("1.10"), Decimal128("2E+3"), float("nan"), "text", b"bytes",
    ObjectId(), True, None, {"nested": 1.0, "deep": {"er": Decimal128("7.0")}},
]  # fmt: skip


def test_documents_with_any_kind_of_key_can_be_resumed_from(server, waters):
    async def scenario() -> None:
        with closing(await present(server, waters)) as client:
            odd = waters[f"odd_{server.port}"]
            odd.insert_many([{"_id": key, "number": n} for n, key in enumerate(ODD_IDS)])
            await hear(client, len(ODD_IDS) - 1)
        for place, event in enumerate(client.events[:-1]):
            with closing(await opened(server, event.id)) as again:
                assert await hear(again, len(ODD_IDS) - 1) == list(range(place + 1, len(ODD_IDS)))

    asyncio.run(scenario())


def test_clients_of_a_server_that_was_killed_are_served_from_its_new_memory(sandbox, database, start_server):
    """It starts in the past: those who come back get what they missed though the database is out of reach."""
    with Proxy(sandbox.nodes[0].port) as proxy:
        server = start_server("--mongo", proxy.uri, "--database", database.name)

        async def scenario() -> None:
            numbers, ids = await record(server, database, 300)
            server.kill()
            numbers += write(database, 300)
            await asyncio.to_thread(server.start)
            proxy.freeze()
            with ExitStack() as stack:
                places = range(0, 300, 10)
                clients = [stack.enter_context(closing(await opened(server, ids[place]))) for place in places]
                for place, client in zip(places, clients, strict=True):
                    assert await hear(client, numbers[-1]) == numbers[place + 1 :]
                proxy.thaw()
                last = write(database, 1)[0]
                for client in clients:
                    assert await hear(client, last) == [last]

        asyncio.run(scenario())


# -- positions that cannot be resumed --------------------------------------------------------------


async def check_reset(server: ServerProcess, waters, last_id: str, reason: str) -> None:
    """A client that comes with this id is told, goes on live, and has a place to come back to."""
    with closing(await opened(server, last_id)) as client:
        event = await client.next()
        assert (event.event, event.id) == ("reset", ""), "a reset clears the id"
        assert json.loads(event.data) == {"reason": reason, "since": as_shown(last_id)}
        async with asyncio.timeout(20):
            while not client.parser.last_id:
                assert await client.read()
        place = client.parser.last_id
        assert place.startswith("t")
        await hear(client, write(waters, 1)[0])
        assert len([event for event in client.events if event.event == "reset"]) == 1
    with closing(await opened(server, place)) as client:
        last = write(waters, 2)[-1]
        heard = await hear(client, last)
        assert heard == sorted(set(heard))


def as_shown(id: str) -> str:
    """An id as a reset repeats it: a resume token as the id of its event."""
    try:
        return resume_token.position(id).id
    except InvalidId:
        return id[:200]


def token_of(database) -> str:
    """The resume token of a document that is written just now."""
    with database.watch() as stream:
        database.creatures.insert_one({"number": next(NUMBERS)})
        return stream.next()["_id"]["_data"]


def at(seconds: int, id: str) -> str:
    """The same id at another time."""
    return f"t{seconds}.{id.partition('.')[2]}"


GARBAGE = (
    "garbage", "0", "82", "82ABCDEF", "t", "t1", "t1.", "t99999999999.1", "t1.99999999999", "-1.1", "demo-1",
    "826b030f2e000000112b022c0100296e5a1004", "826B030F2E0000001", "\\", "82" + "F" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: garbage[:20])
def test_garbage_for_an_id_gets_a_reset_and_goes_on_live(from_memory, waters, garbage):
    asyncio.run(check_reset(from_memory, waters, garbage, "invalid-id"))


@pytest.mark.parametrize("garbage", ["garbage", "82ABCDEF", "t99999999999.1", ""])
def test_garbage_in_the_parameter_is_refused_as_a_mistake_of_the_page(from_memory, garbage):
    async def scenario() -> None:
        client = await RawClient(from_memory.port, f"/stream?since={garbage}", http="1.0").connect()
        with closing(client):
            assert client.status == 400
            assert client.headers["content-type"] == "application/problem+json"
            assert await client.read()
            assert json.loads(client.raw)["code"] == "invalid-id"

    asyncio.run(scenario())


def test_id_that_was_made_up_between_two_events_gets_a_reset_and_goes_on_live(server, waters):
    async def scenario() -> None:
        _, ids = await record(server, waters, 5)
        # Another document at the time of a real one.
        await check_reset(server, waters, ids[2][:-2] + ("00" if ids[2][-2:] != "00" else "01"), "invalid-id")
        # A time between two real ones.
        seconds, increment = time_of(ids[-1])
        _, check = ids[-1].split("-")
        await check_reset(server, waters, f"t{seconds}.{increment + 1}-{check}", "invalid-id")

    asyncio.run(scenario())


def test_id_from_a_far_future_gets_a_reset_and_goes_on_live(server, waters):
    async def scenario() -> None:
        _, ids = await record(server, waters, 1)
        await check_reset(server, waters, "t4294967295.1", "invalid-id")
        await check_reset(server, waters, at(0xFFFFFFFF, ids[0]), "invalid-id")
        await check_reset(server, waters, checkpoint_after(at(int(time.time()) + 3600, ids[0])), "invalid-id")

    asyncio.run(scenario())


def test_id_from_a_far_future_gets_its_reset_beside_one_that_is_good(server, waters):
    """They share a replay, which starts at the good one."""

    async def scenario() -> None:
        _, ids = await record(server, waters, 1)
        missed = write(waters, 30)
        await all_heard(server, waters)
        with ExitStack() as stack:
            places = [ids[0], "t4294967295.1", ids[0], at(0xFFFFFFFF, ids[0])]
            clients = [stack.enter_context(closing(await opened(server, place))) for place in places]
            for client in clients[1::2]:
                assert (await client.next()).event == "reset"
            last = write(waters, 1)[0]
            for client in clients[::2]:
                assert (await hear(client, last))[:30] == missed
            for client in clients[1::2]:
                await hear(client, last)

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def elsewhere():
    """Another deployment."""
    with Sandbox() as other, pymongo.MongoClient(other.uri) as client:
        yield client.get_database("resume", write_concern=WriteConcern("majority"))


def test_id_of_another_deployment_gets_a_reset_and_goes_on_live(server, waters, elsewhere):
    async def scenario() -> None:
        write(waters, 1)
        strange = token_of(elsewhere)
        write(waters, 1)
        await all_heard(server, waters)
        await check_reset(server, waters, strange, "invalid-id")

    asyncio.run(scenario())


def test_id_of_a_deployment_whose_clock_is_ahead_gets_a_reset_and_goes_on_live(server, waters, elsewhere):
    with elsewhere.client.start_session() as session:
        # A deployment's clock follows the latest time that anybody brings along.
        later = Timestamp(int(time.time()) + 3600, 1)
        signature = {"hash": b"\0" * 20, "keyId": Int64(0)}
        session.advance_cluster_time({"clusterTime": later, "signature": signature})
        elsewhere.client.admin.command("ping", session=session)
    strange = token_of(elsewhere)
    assert time_of(strange) >= (later.time, later.inc)
    asyncio.run(check_reset(server, waters, strange, "invalid-id"))
    asyncio.run(check_reset(server, waters, checkpoint_after(strange), "invalid-id"))


def test_id_of_an_event_from_before_the_deployment_existed_gets_a_reset_and_goes_on_live(server, waters):
    """Its mongod would take the id without a word: its log goes back to its own beginning."""

    async def scenario() -> None:
        _, ids = await record(server, waters, 1)
        await check_reset(server, waters, at(1_000_000_000, ids[0]), "invalid-id")

    asyncio.run(scenario())


class Renewed:
    """A server whose only member is replaced, while nobody can reach it, by one with a younger log."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.sandbox = stack.enter_context(Sandbox())
        self.proxy = stack.enter_context(Proxy(self.sandbox.nodes[0].port))
        client = stack.enter_context(pymongo.MongoClient(self.sandbox.uri))
        self.waters = client.get_database("resume", write_concern=WriteConcern("majority"))
        self.server = ServerProcess("--mongo", self.proxy.uri, "--database", "resume").start()
        stack.callback(self.server.kill)
        self.numbers, self.ids = asyncio.run(record(self.server, self.waters, 20))
        self.member = Node(folder / "younger")
        stack.callback(self.member.stop, signal.SIGKILL)
        self.resets: list[Received] = []
        self.lost: list[int] = []
        asyncio.run(self._renew(client))

    async def _renew(self, client) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(closing(await opened(self.server))) for _ in range(5)]
            first = write(self.waters, 1)[0]
            for each in clients:
                await hear(each, first)
            self.proxy.cut()
            self.lost = write(self.waters, 5)
            self._add_member(client)
            self.proxy.upstream = self.member.port
            self.proxy.restore()
            self.resets = [await each.next(60) for each in clients]
            self.place = clients[0].parser.last_id
            last = write(self.waters, 1)[0]
            self.afterwards = [await hear(each, last) for each in clients]

    def _add_member(self, client) -> None:
        """Its log begins where its copy of the data does: after what was lost.

        Not in a thread of its own: the node would end with it (PR_SET_PDEATHSIG).
        """
        self.member.start()
        self.member.wait()
        config = client.admin.command("replSetGetConfig")["config"]
        host = f"127.0.0.1:{self.member.port}"
        config["members"].append({"_id": 1, "host": host, "priority": 0, "votes": 0})
        config["version"] += 1
        client.admin.command("replSetReconfig", config)
        with self.member.client() as member:
            until = time.monotonic() + 60
            while not member.admin.command("hello")["secondary"]:
                assert time.monotonic() < until
                time.sleep(0.02)


@pytest.fixture(scope="module")
def renewed(tmp_path_factory):
    with ExitStack() as stack:
        yield Renewed(tmp_path_factory.mktemp("renewed"), stack)


def test_history_that_is_lost_while_the_server_runs_resets_everyone_once_and_goes_on(renewed):
    for reset in renewed.resets:
        assert (reset.event, reset.id) == ("reset", "")
        assert json.loads(reset.data) == {"reason": "history-lost"}
    assert all(len(heard) == 1 for heard in renewed.afterwards), "only what came after the gap"
    lines = [line for line in renewed.server.log if "every client is reset" in line]
    assert len(lines) == 1
    assert urllib.request.urlopen(f"{renewed.server.url}/readyz").status == 200


def test_id_older_than_the_log_gets_a_reset_and_goes_on_live(renewed):
    for id in renewed.ids[0], checkpoint_after(renewed.ids[-1]):
        asyncio.run(check_reset(renewed.server, renewed.waters, id, "history-lost"))


def test_place_that_came_with_the_reset_is_good(renewed):
    async def scenario() -> None:
        last = write(renewed.waters, 3)[-1]
        with closing(await opened(renewed.server, renewed.place)) as client:
            heard = await hear(client, last)
            assert heard[-3:] == list(range(last - 2, last + 1))
            assert not set(heard) & set(renewed.lost)

    asyncio.run(scenario())


def test_server_that_starts_on_a_young_log_warms_up_as_far_as_it_can(renewed, start_server):
    server = start_server("--mongo", renewed.proxy.uri, "--database", "resume", "--warm-up-seconds", "3600")
    asyncio.run(check_reset(server, renewed.waters, renewed.ids[0], "history-lost"))


def test_many_lost_ids_get_one_reset_each_and_do_not_harm_the_good_ones(renewed, start_server):
    server = start_server(
        "--mongo", renewed.proxy.uri, "--database", "resume", "--history-max-bytes", "0",
        "--warm-up-seconds", "0",
    )  # fmt: skip

    async def scenario() -> None:
        _, ids = await record(server, renewed.waters, 20)
        last = await all_heard(server, renewed.waters)
        with ExitStack() as stack:
            places = [*renewed.ids, *ids] * 2
            clients = await asyncio.gather(*(opened(server, place) for place in places))
            for client in clients:
                stack.enter_context(closing(client))
            for place, client in zip(places, clients, strict=True):
                if place in ids:
                    heard = await hear(client, last)
                    assert len(heard) == 20 - ids.index(place)
                else:
                    event = await client.next()
                    assert json.loads(event.data) == {"reason": "history-lost", "since": place}
            last = write(renewed.waters, 1)[0]
            for client in clients:
                assert await hear(client, last) == [last]

    asyncio.run(scenario())
