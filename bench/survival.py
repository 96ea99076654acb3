"""Cuts, restarts and a stopped reader, and what they cost clients: `python -m bench.survival`.

A client is cut off, 200 documents are written, and it comes back with its last id, as an EventSource does:
to the same server, to a second instance, and to the server after it was killed and started again. Then
another client stops to read while documents are written.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from bench import usage
from bench.database import Database, creature
from bench.listener import Listener
from bench.report import table
from bench.run import choose
from bench.servers import Running, Server
from sources.sandbox import Sandbox

BEFORE, MISSED, AFTER = 100, 200, 100
INTERVAL_SECONDS = 0.01
STAYING = 10
PATIENCE_SECONDS = 10
DOWN_SECONDS = 2
"""Longer than a second: nchan's ids are a second and a number, and would repeat within it."""

# A reader stops: 40 MB are written in 10 s, far more than the sockets' buffers hold.
LARGE = 20_000
LARGE_DOCUMENTS = 2000
LARGE_INTERVAL_SECONDS = 0.005
READING = 4
STOPPED_SECONDS = 90
"""Time for a server that cuts a reader off by time rather than by size: in nginx 60 s."""

HEAD = (
    "",
    "comes back while others stay",
    "comes back to a second instance",
    "comes back after a restart",
    "a reader stops: memory grows by, MB (all read / one stopped)",
    "the stopped reader is cut off",
    "events lost by the others",
)


def listen(running: Running, last_id: str = "") -> Listener:
    return Listener(running.port, running.server.path, last_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Events that a client lost or received twice, and names of the events that told it so."""

    lost: int
    repeated: int
    told: frozenset[str]


def outcome(before: Listener, after: Listener, last: int) -> Outcome:
    """Compare the numbers of both connections of one client with all that were written."""
    seen = set(before.numbers) | set(after.numbers)
    lost = set(range(1, 1 + last)) - seen
    repeated = len(before.numbers) + len(after.numbers) - len(seen)
    return Outcome(len(lost), repeated, frozenset(after.others) - {"bye"})


def worst(outcomes: Sequence[Outcome]) -> str:
    """Format the outcomes of some rounds: the worst of each kind."""
    words = []
    for name in ("lost", "repeated"):
        counts = [getattr(one, name) for one in outcomes]
        if max(counts):
            up_to = "" if min(counts) == max(counts) else "up to "
            words.append(f"{up_to}{max(counts)} {name}")
    words += sorted(f"told `{name}`" for name in frozenset().union(*(one.told for one in outcomes)))
    return ", ".join(words) or "nothing lost"


Interrupt = Callable[[Running, Callable[[], None]], None]
"""Calls the second, which writes, and does to the first what a client has to survive."""


def returning(server: Server, uri: str, interrupt: Interrupt, second: bool = False) -> Outcome:
    """Cut a client off, write while it is away, and let it come back with its last id."""
    last = BEFORE + MISSED + AFTER
    with ExitStack() as stack:
        database = stack.enter_context(Database(uri))
        running = stack.enter_context(Running(server, database))
        target = stack.enter_context(Running(server, database, f"{server.name}-2")) if second else running
        staying = [stack.enter_context(listen(target)) for _ in range(STAYING)]
        client = stack.enter_context(listen(running))
        running.settle()
        database.write(range(1, 1 + BEFORE), 1, INTERVAL_SECONDS)
        if not client.wait_for(BEFORE, PATIENCE_SECONDS):
            raise SystemExit(f"{server.title}: a client is not sent what is written")
        client.leave()
        missed = range(1 + BEFORE, 1 + BEFORE + MISSED)
        interrupt(target, lambda: database.write(missed, 1, INTERVAL_SECONDS))
        staying[0].wait_for(BEFORE + MISSED, 2)
        again = stack.enter_context(listen(target, client.last_id))
        target.settle()
        database.write(range(1 + last - AFTER, 1 + last), 1, INTERVAL_SECONDS)
        again.wait_for(last, PATIENCE_SECONDS)
        # A repetition may come late.
        time.sleep(0.5)
        target.check()
        return outcome(client, again, last)


def stay(running: Running, write: Callable[[], None]) -> None:
    write()


def restart(running: Running, write: Callable[[], None]) -> None:
    running.kill()
    write()
    time.sleep(DOWN_SECONDS)
    running.start_again()


@dataclass(frozen=True, slots=True)
class Flood:
    memory_mb: float
    """The most that the server's memory grew."""
    cut_after_seconds: float | None
    """Time until the server closed the stopped reader's connection; None if it did not."""
    others_lost: int


class Stopped:
    """A reader that takes the head of the answer, and then nothing."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", running.port))
        self._socket.sendall(f"GET {running.server.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        if not self._socket.recv(1):
            raise SystemExit(f"{running.server.title} closed the connection of a new client")

    def is_cut(self) -> bool:
        """Return True if no process of the server has the connection any more."""
        port = self._socket.getsockname()[1]
        for pid in self._running.pids():
            for one in psutil.Process(pid).net_connections("tcp4"):
                if one.raddr and one.raddr.port == port:
                    return False
        return True

    def close(self) -> None:
        self._socket.close()


def flood(server: Server, uri: str, *, stopped: bool) -> Flood:
    """Write large documents, with all clients reading or one of them stopped."""
    with ExitStack() as stack:
        database = stack.enter_context(Database(uri))
        running = stack.enter_context(Running(server, database))
        reading = [stack.enter_context(listen(running)) for _ in range(READING + (not stopped))]
        reader = Stopped(running) if stopped else None
        running.settle()
        memory = most = usage.memory_bytes(running.pids())
        began, cut = time.monotonic(), None
        writer = threading.Thread(target=write_large, args=(database,))
        writer.start()
        while writer.is_alive() or (reader and cut is None and time.monotonic() < began + STOPPED_SECONDS):
            time.sleep(0.1)
            most = max(most, usage.memory_bytes(running.pids()))
            if reader and cut is None and reader.is_cut():
                cut = time.monotonic() - began
        running.check()
        lost = 0
        for one in reading:
            one.wait_for(LARGE_DOCUMENTS, PATIENCE_SECONDS)
            lost += LARGE_DOCUMENTS - len(set(one.numbers))
        if reader:
            reader.close()
        return Flood((most - memory) / 1e6, cut, lost)


def write_large(database: Database) -> None:
    numbers = range(1, 1 + LARGE_DOCUMENTS)
    large = {"pad": "x" * LARGE}
    database.write(numbers, 1, LARGE_INTERVAL_SECONDS, make=lambda number: creature(number) | large)


def survival(server: Server, uri: str, rounds: int) -> list[str]:
    """Return the row of a server."""
    returns = [
        worst([returning(server, uri, interrupt, second) for _ in range(rounds)])
        for interrupt, second in ((stay, False), (stay, True), (restart, False))
    ]
    calm = flood(server, uri, stopped=False)
    stuck = flood(server, uri, stopped=True)
    cut = "no" if stuck.cut_after_seconds is None else f"after {stuck.cut_after_seconds:.0f} s"
    memory = f"{calm.memory_mb:.0f} / {stuck.memory_mb:.0f}"
    return [server.title, *returns, memory, cut, str(stuck.others_lost)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.survival", description=__doc__)
    parser.add_argument("--servers", type=lambda text: text.split(","), help="only these, such as brook,go")
    parser.add_argument("--rounds", type=int, default=3, help="returns of each kind; the worst is shown")
    options = parser.parse_args()
    options.peers = True
    rows = [list(HEAD)]
    with Sandbox() as sandbox:
        for server in choose(options):
            # The floor is no server: it keeps nothing.
            if server.name != "floor":
                rows.append(survival(server, sandbox.uri, options.rounds))
                print("; ".join(rows[-1]), flush=True)
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
