"""Live queries that wait for their snapshot, while MongoDB reads another one."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack, closing

from sources.sandbox import Sandbox
from tests.support.raw_client import RawClient


def test_query_that_waits_for_its_turn_is_kept_alive(start_server):
    """With one snapshot at once, the first hangs in MongoDB, and the second is not begun."""
    with Sandbox() as mongodb:
        options = ("--snapshot-cursors", "1", "--heartbeat-seconds", "0.2")
        server = start_server("--mongo", mongodb.uri, "--database", "waiting", *options)
        [node] = mongodb.nodes
        assert node.pid is not None

        async def scenario() -> None:
            with ExitStack() as stack:
                os.kill(node.pid, signal.SIGSTOP)
                try:
                    clients = []
                    for number in range(2):
                        path = f'/stream/creatures?mode=live&filter={{"n":{number}}}'
                        client = await RawClient(server.port, path).connect()
                        clients.append(stack.enter_context(closing(client)))
                    for client in clients:
                        async with asyncio.timeout(20):
                            while client.parser.comments < 3:
                                assert await client.read()
                        assert not {event.event for event in client.events} & {"snapshot", "live"}
                finally:
                    os.kill(node.pid, signal.SIGCONT)
                for client in clients:
                    while (await client.next()).event != "live":
                        pass

        asyncio.run(scenario())
