"""Babbling Brook: MongoDB's changes in the browser, over Server-Sent Events.

The command line, and the only module that imports all packages. It builds settings, source, subscriber list
and application, serves, and drains.
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
import tempfile
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from brook import __version__, finding, host, workers
from brook.delivery.history import History
from brook.delivery.keeper import Keeper
from brook.delivery.replay import Replayer
from brook.delivery.subscriber import CloseReason
from brook.delivery.subscribers import SubscriberList
from brook.delivery.tally import Tally
from brook.errors import BrookError, OperatorError, SettingsError
from brook.exposure import exposure
from brook.feed import Feed
from brook.logs import JsonFormatter
from brook.readiness import Readiness
from brook.settings import Settings, environment_name, flag
from brook.source import Source
from brook.streams import SingleStream, Streams
from handlers import application, listening
from handlers.descriptors import Descriptors
from handlers.limits import Limits
from handlers.metrics import Instruments, Metrics
from handlers.siblings import Siblings
from sources import ask_for_collection, named_database, open_source

if TYPE_CHECKING:  # it imports bson, and the demo must run without it
    from brook.live.result_sets import ResultSets

log = logging.getLogger("brook")

STATIC = Path(__file__).resolve().parent / "static"

# Thresholds of the garbage collector. With the defaults (700, 10, 10), it traverses the connections of an
# arriving crowd again and again: accepting ten thousand clients takes a sixth longer and saves a tenth of the
# memory.
GARBAGE_THRESHOLDS = (5000, 5, 10)

MODES = ("demo", "mongo", "sandbox")


async def serve(
    settings: Settings,
    source: Source,
    streams: Streams | None = None,
    stopped: Callable[[], bool] = lambda: False,
    siblings: Siblings | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, not at all if it is `stopped` already. Raises OperatorError when that is
    not possible (any more).
    """
    history = History(settings.history_max_bytes, settings.history_seconds)
    replayer = Replayer(source, history, settings.replay_cursors)
    result_sets = _result_sets(settings, source, history)
    tally = Tally()
    subscribers = SubscriberList(settings, history, replayer, (tally,), live=result_sets)
    keeper = Keeper(settings, history, subscribers, source)
    feed = Feed(source, subscribers)
    readiness = Readiness(feed)
    descriptors = Descriptors.of_this_process()
    limits = Limits(settings)
    metrics = Metrics(
        Instruments(subscribers, history, replayer, result_sets, feed, source, readiness, tally), siblings
    )
    listings = None if result_sets is None else result_sets.listings
    app = application(
        settings, streams or SingleStream(), source, subscribers, readiness, STATIC, descriptors, metrics,
        listings, limits,
    )  # fmt: skip
    stop = _stop_event(stopped)
    tasks: list[asyncio.Task[Any]] = []
    try:
        tasks.append(asyncio.create_task(stop.wait()))
        await _unless_ended(tasks, source.open())
        if not stop.is_set():
            tasks += [asyncio.create_task(feed.run()), asyncio.create_task(keeper.run())]
            await _unless_ended(tasks, feed.started.wait())
        if not stop.is_set():
            await metrics.open(settings)
            server = listening.listen(settings, app, descriptors, limits)
            try:
                await _unless_ended(tasks, asyncio.Event().wait())
            finally:
                log.info("stopping: %(clients)d clients", {"clients": len(subscribers)})
                readiness.leave()
                if stop.is_set():
                    await asyncio.sleep(settings.drain_delay_seconds)
                readiness.drain()
                server.stop()
                await keeper.drain(CloseReason.SHUTDOWN, settings.drain_seconds)
                await server.close_all_connections()
    finally:
        metrics.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await replayer.close()
        if result_sets is not None:
            await result_sets.close()
        await source.close()


def _stop_event(stopped: Callable[[], bool]) -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets, or has set already."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if stopped():
        stop.set()
    return stop


async def _unless_ended(tasks: Iterable[asyncio.Task[Any]], awaited: Coroutine[Any, Any, Any]) -> None:
    """Await a coroutine until it or any of the tasks ends. Raises the exception of an ended task."""
    main = asyncio.create_task(awaited)
    try:
        done, _ = await asyncio.wait([main, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        main.cancel()


def work(
    settings: Settings,
    uri: str | None,
    stopped: Callable[[], bool],
    siblings: Siblings | None = None,
    *,
    babbling: bool,
) -> int:
    """Run one process: the server, and for the sandbox a writer. Returns the exit code."""
    try:
        asyncio.run(_run(settings, uri, stopped, siblings, babbling=babbling))
    except BrookError as error:
        click.echo(f"babbling-brook: {error}", err=True)
        return 1
    return 0


async def _run(
    settings: Settings,
    uri: str | None,
    stopped: Callable[[], bool],
    siblings: Siblings | None,
    *,
    babbling: bool,
) -> None:
    serving = serve(settings, open_source(settings, uri), _streams(settings, uri), stopped, siblings)
    if uri is None or not babbling:
        await serving
        return
    # A late import: the other modes must run without the driver.
    from sources.sandbox import babble

    writer = asyncio.create_task(babble(uri, settings.database, settings.collection[0]))
    try:
        await _unless_ended([writer], serving)
    finally:
        writer.cancel()


def _result_sets(settings: Settings, source: Source, history: History) -> ResultSets | None:
    """Return the result sets of live mode; None for the demo, which has no documents."""
    if not source.has_documents:
        return None
    # A late import: the demo must run without bson.
    from brook.live.result_sets import ResultSets

    return ResultSets(settings, source, history)


def _streams(settings: Settings, uri: str | None) -> Streams:
    """Return the private stream of the demo, or the streams of MongoDB's collections."""
    if uri is None:
        return SingleStream(private=True)
    # A late import: the demo must run without bson.
    from brook.namespaces import Namespaces
    from brook.parameters import CollectionStreams

    return CollectionStreams(Namespaces.of(settings))


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option and an environment variable for each setting to a command."""
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
@click.option("--demo", is_flag=True, envvar="BROOK_DEMO", help="Play a scripted demo to each client.")
@click.option("--mongo", metavar="URI", envvar="BROOK_MONGO", help="Follow the MongoDB at this URI.")
@click.option("--check", is_flag=True, help="With --mongo: say what will matter, with remedies, and exit.")
@click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", help="Output of --check."
)
@click.option("--sandbox", is_flag=True, envvar="BROOK_SANDBOX", help="Follow a throwaway MongoDB.")
@_options
@click.version_option(__version__, prog_name="babbling-brook", message="%(prog)s %(version)s")
@click.pass_context
def main(
    context: click.Context,
    /,
    demo: bool,
    mongo: str | None,
    sandbox: bool,
    check: bool,
    output: str,
    **values: Any,
) -> None:
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
    unnamed = mode == "mongo" and _leaves_collection_open(context, mongo or "")
    if check:
        if mode != "mongo" or mongo is None:
            raise click.UsageError("--check takes --mongo URI", context)
        _check(settings, mongo, output, unnamed=unnamed)
    if unnamed:
        raise SystemExit(f"babbling-brook: {ask_for_collection(mongo or '', settings.database)}")
    _log(settings)
    _allow_many_sockets()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    stop = _StopRequest()
    with contextlib.ExitStack() as stack:
        try:
            settings = _choose_port(settings)
            uri = _start_sandbox(stack, stop) if mode == "sandbox" else mongo if mode == "mongo" else None
        except OperatorError as error:
            raise SystemExit(f"babbling-brook: {error}") from None
        if uri is not None and (open_to := exposure(settings)) is not None:
            log.warning("no access rules: %(readers)s can read all of %(readable)s; %(remedy)s", open_to)
        siblings = _siblings(settings, stack)
        code = workers.run(
            settings.processes,
            lambda number: work(
                settings, uri, stop, siblings(number), babbling=mode == "sandbox" and number == 0
            ),
        )
    _exit(code)


def _leaves_collection_open(context: click.Context, uri: str) -> bool:
    """True if the URI names a database, and no option names another one or a collection."""
    sources = map(context.get_parameter_source, ("database", "collection", "namespace"))
    return bool(named_database(uri)) and set(sources) == {ParameterSource.DEFAULT}


def _check(settings: Settings, uri: str, output: str, *, unnamed: bool) -> NoReturn:
    """Print the findings, and exit: with 1 if the server cannot work."""
    # A late import: the other modes must run without the driver.
    from sources.mongo import doctor

    # The findings hold the warnings that the opening of the change stream would log.
    logging.getLogger().addHandler(logging.NullHandler())
    findings = [*asyncio.run(doctor.examine(uri, settings, unnamed=unnamed)), *host.examine()]
    click.echo(finding.as_json(findings) if output == "json" else finding.text(findings))
    raise SystemExit(0 if finding.works(findings) else 1)


def _log(settings: Settings) -> None:
    """Log to stderr, in the configured format."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _siblings(settings: Settings, stack: contextlib.ExitStack) -> Callable[[int], Siblings]:
    """Return the way from one process to the others, by the number of the process."""
    if settings.processes == 1:
        return lambda number: Siblings()
    # The last process removes the folder, too: the parent may be killed.
    folder = tempfile.TemporaryDirectory(prefix="brook-metrics-", ignore_cleanup_errors=True)
    path = Path(stack.enter_context(folder))
    return lambda number: Siblings(path, number, settings.processes)


def _choose_port(settings: Settings) -> Settings:
    """Check that the port is free before starting anything, and replace port 0 by a free one.

    Processes that share a port (SO_REUSEPORT) would not notice another server that shares it too.
    """
    if settings.metrics_port:
        own_port = dataclasses.replace(settings, port=settings.metrics_port)
        for bound in listening.bind(own_port, reuse_port=False, option="--metrics-port"):
            bound.close()
    sockets = listening.bind(settings, reuse_port=False)
    port = sockets[0].getsockname()[1]
    for bound in sockets:
        bound.close()
    return dataclasses.replace(settings, port=port)


class _StopRequest:
    """SIGTERM and SIGINT, until `serve` or `workers` handles them.

    The handler only notes the signal. An exception raised in it could come anywhere, and the driver
    would swallow it. The steps of the start look at the note.
    """

    def __init__(self) -> None:
        self._made = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._make)

    def __call__(self) -> bool:
        """True once a signal has come."""
        return self._made

    def _make(self, number: int, frame: FrameType | None) -> None:
        self._made = True


def _start_sandbox(stack: contextlib.ExitStack, stop: _StopRequest) -> str:
    # A late import: the other modes must run without the driver.
    from sources.sandbox import Sandbox, Stopped

    log.info("starting a throwaway MongoDB; its data is deleted when the server stops")
    try:
        uri = stack.enter_context(Sandbox(stopped=stop)).uri
    except Stopped:
        raise SystemExit(0) from None
    log.info("to connect to it: mongosh '%s'", uri)
    return uri


def _exit(code: int) -> NoReturn:
    """End the process without joining threads.

    Everything is closed by now, but a driver thread may still wait for a database that does not answer, and
    the interpreter would wait for the thread.
    """
    logging.shutdown()
    os._exit(code)


def _mode(context: click.Context, chosen: dict[str, bool]) -> str:
    """Return the chosen mode. The command line takes precedence over the environment."""
    asked = [mode for mode in MODES if chosen[mode]]
    typed = [mode for mode in asked if context.get_parameter_source(mode) is ParameterSource.COMMANDLINE]
    modes = typed or asked
    if len(modes) != 1:
        raise click.UsageError("choose one of --demo, --mongo URI and --sandbox", context)
    return modes[0]


def _allow_many_sockets() -> None:
    """Raise the soft limit of open files, usually 1,024, to the hard limit: each client takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
