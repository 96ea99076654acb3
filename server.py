"""Babbling Brook: MongoDB's changes in the browser, over Server-Sent Events.

The only place that knows every room: settings -> source -> subscribers -> application -> serve -> drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from brook import workers
from brook.delivery.history import History
from brook.delivery.keeper import Keeper
from brook.delivery.replay import Replayer
from brook.delivery.subscriber import CloseReason
from brook.delivery.subscribers import SubscriberList
from brook.errors import BrookError, OperatorError, SettingsError
from brook.feed import Feed
from brook.readiness import Readiness
from brook.settings import Settings, environment_name, flag
from brook.source import Source
from brook.streams import SingleStream, Streams
from handlers import application, listening
from sources import named_database, open_source

log = logging.getLogger("brook")

STATIC = Path(__file__).resolve().parent / "static"

# The collector looks at what is new after so many allocations, and now and then at everything. At its usual
# pace (700, 10, 10) it goes over the connections of a crowd that comes time and again: ten thousand are let
# in a sixth slower, for a tenth less memory.
GARBAGE_THRESHOLDS = (5000, 5, 10)

MODES = ("demo", "mongo", "sandbox")


async def serve(settings: Settings, source: Source, streams: Streams | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises OperatorError when that is not possible (any more)."""
    history = History(settings.history_max_bytes, settings.history_seconds)
    replayer = Replayer(source, history, settings.replay_cursors)
    subscribers = SubscriberList(settings, history, replayer)
    keeper = Keeper(settings, history, subscribers)
    feed = Feed(source, subscribers)
    readiness = Readiness(feed)
    app = application(settings, streams or SingleStream(), source, subscribers, readiness, STATIC)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks: list[asyncio.Task[Any]] = []
    try:
        tasks.append(asyncio.create_task(stop.wait()))
        await _unless_ended(tasks, source.open())
        if not stop.is_set():
            tasks += [asyncio.create_task(feed.run()), asyncio.create_task(keeper.run())]
            await _unless_ended(tasks, feed.started.wait())
        if not stop.is_set():
            server = listening.listen(settings, app)
            try:
                await _unless_ended(tasks, asyncio.Event().wait())
            finally:
                log.info("stopping: %d clients", len(subscribers))
                readiness.drain()
                server.stop()
                await keeper.drain(CloseReason.SHUTDOWN, settings.drain_seconds)
                await server.close_all_connections()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await replayer.close()
        await source.close()


async def _unless_ended(tasks: Iterable[asyncio.Task[Any]], awaited: Coroutine[Any, Any, Any]) -> None:
    """Await something, but no longer than all tasks run. Raises what one raised: none dies unseen."""
    main = asyncio.create_task(awaited)
    try:
        done, _ = await asyncio.wait([main, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        main.cancel()


def work(settings: Settings, uri: str | None, *, babbling: bool) -> int:
    """One process's work: serve, with a writer beside it for the sandbox. Returns the exit code."""
    try:
        asyncio.run(_run(settings, uri, babbling=babbling))
    except BrookError as error:
        click.echo(f"babbling-brook: {error}", err=True)
        return 1
    return 0


async def _run(settings: Settings, uri: str | None, *, babbling: bool) -> None:
    serving = serve(settings, open_source(settings, uri), _streams(settings, uri))
    if uri is None or not babbling:
        await serving
        return
    # Imported only when asked for: it needs the driver.
    from sources.sandbox import babble

    writer = asyncio.create_task(babble(uri, settings.database, settings.collection[0]))
    try:
        await _unless_ended([writer], serving)
    finally:
        writer.cancel()


def _streams(settings: Settings, uri: str | None) -> Streams:
    """The demo has one stream, played to each client alone; MongoDB has those of its collections."""
    if uri is None:
        return SingleStream(private=True)
    # Imported only when asked for: the demo needs no bson.
    from brook.namespaces import Namespaces
    from brook.parameters import CollectionStreams

    return CollectionStreams(Namespaces.of(settings))


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """A command line option and an environment variable for every setting."""
    for field in reversed(dataclasses.fields(Settings)):
        many = isinstance(field.default, tuple)
        command = click.option(
            flag(field.name),
            field.name,
            envvar=environment_name(field.name),
            multiple=many,
            type=str if many else type(field.default),
            default=field.default,
            show_default=True,
            show_envvar=True,
            help=field.metadata["help"],
        )(command)
    return command


@click.command(context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.option("--demo", is_flag=True, envvar="BROOK_DEMO", help="Play a script to every client.")
@click.option("--mongo", metavar="URI", envvar="BROOK_MONGO", help="Follow the MongoDB at this URI.")
@click.option("--sandbox", is_flag=True, envvar="BROOK_SANDBOX", help="Follow a throwaway MongoDB.")
@_options
@click.pass_context
def main(context: click.Context, /, demo: bool, mongo: str | None, sandbox: bool, **values: Any) -> None:
    """Push MongoDB's changes to browsers, live, over Server-Sent Events.

    Choose one of --demo, --mongo URI and --sandbox.
    """
    mode = _mode(context, {"demo": demo, "mongo": mongo is not None, "sandbox": sandbox})
    if mode == "mongo" and context.get_parameter_source("database") is ParameterSource.DEFAULT:
        values["database"] = named_database(mongo or "") or values["database"]
    try:
        settings = Settings(**values)
    except SettingsError as error:
        raise click.UsageError(str(error), context) from None
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    _allow_many_sockets()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    with contextlib.ExitStack() as stack:
        try:
            settings = _choose_port(settings)
            uri = _start_sandbox(stack) if mode == "sandbox" else mongo if mode == "mongo" else None
        except OperatorError as error:
            raise SystemExit(f"babbling-brook: {error}") from None
        code = workers.run(
            settings.processes, lambda number: work(settings, uri, babbling=mode == "sandbox" and number == 0)
        )
    _exit(code)


def _choose_port(settings: Settings) -> Settings:
    """Find out before anything else is started whether the port can be had, and which one it is.

    Several processes share theirs (SO_REUSEPORT), which would not notice another server that does so too.
    """
    sockets = listening.bind(settings, reuse_port=False)
    port = sockets[0].getsockname()[1]
    for bound in sockets:
        bound.close()
    return dataclasses.replace(settings, port=port)


def _start_sandbox(stack: contextlib.ExitStack) -> str:
    # Imported only when asked for: it needs the driver.
    from sources.sandbox import Sandbox

    log.info("starting a private MongoDB, which will be gone when this ends")
    uri = stack.enter_context(Sandbox()).uri
    log.info("to write to it yourself: mongosh '%s'", uri)
    return uri


def _exit(code: int) -> NoReturn:
    """End the process. Everything is closed by now, but a thread may still wait for a database that
    does not answer, and the interpreter would wait for the thread.
    """
    logging.shutdown()
    os._exit(code)


def _mode(context: click.Context, chosen: dict[str, bool]) -> str:
    """The one mode asked for. What the command line says goes before the environment."""
    asked = [mode for mode in MODES if chosen[mode]]
    typed = [mode for mode in asked if context.get_parameter_source(mode) is ParameterSource.COMMANDLINE]
    modes = typed or asked
    if len(modes) != 1:
        raise click.UsageError("choose one of --demo, --mongo URI and --sandbox", context)
    return modes[0]


def _allow_many_sockets() -> None:
    """As many clients as the system lets this process have; the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
