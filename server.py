"""Babbling Brook: MongoDB's changes in the browser, over Server-Sent Events.

The command line, and the only module that imports all packages. It builds settings, source, subscriber list
and application, serves, and drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from brook import __version__, finding, host, logs, workers
from brook.admission import Admission, Everyone
from brook.commands import options, tokens
from brook.delivery.history import History
from brook.delivery.keeper import Keeper
from brook.delivery.replay import Replayer
from brook.delivery.subscriber import CloseReason
from brook.delivery.subscribers import SubscriberList
from brook.delivery.tally import Tally
from brook.errors import BrookError, OperatorError, SettingsError
from brook.exposure import exposure, unnamed_host
from brook.feed import Feed
from brook.namespaces import named_database
from brook.readiness import Readiness
from brook.settings import Settings
from brook.source import Source
from brook.stop_request import StopRequest, stop_event
from brook.streams import SingleStream, Streams
from handlers import application, certificate, listening
from handlers.acceptor import Acceptor
from handlers.base import problem_of
from handlers.descriptors import Descriptors, allow_many
from handlers.fetch import Fetcher
from handlers.limits import Limits
from handlers.metrics import Instruments, Metrics
from handlers.sandbox import Inserter
from handlers.siblings import Siblings, siblings
from sources import ask_for_collection, open_source

if TYPE_CHECKING:  # they import bson, and the demo must run without it
    from brook.configuration import Configuration
    from brook.live.result_sets import ResultSets

log = logging.getLogger("brook")

STATIC = Path(__file__).resolve().parent / "static"

# Thresholds of the garbage collector. With the defaults (700, 10, 10), it traverses the connections of an
# arriving crowd again and again: accepting ten thousand clients takes a sixth longer and saves a tenth of the
# memory.
GARBAGE_THRESHOLDS = (5000, 5, 10)


async def serve(
    settings: Settings,
    source: Source,
    admission: Admission | None = None,
    stopped: Callable[[], bool] = lambda: False,
    siblings: Siblings | None = None,
    inserter: Inserter | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; not at all if `stopped()` is true already.

    Raises OperatorError if the server cannot start, and the source's error if its events end.
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
    admission = admission or Everyone(SingleStream())
    app = application(
        settings, admission, source, subscribers, readiness, STATIC,
        descriptors, metrics, listings, limits, inserter,
    )  # fmt: skip
    stop = stop_event(stopped)
    tasks: list[asyncio.Task[Any]] = []
    try:
        tasks.append(asyncio.create_task(stop.wait()))
        await _unless_ended(tasks, source.open())
        if not stop.is_set():
            await admission.open()
            tasks += map(asyncio.create_task, (feed.run(), keeper.run(), admission.run()))
            await _unless_ended(tasks, feed.started.wait())
        if not stop.is_set():
            await metrics.open(settings)
            server = listening.listen(settings, app, descriptors, limits)
            if source.has_documents and admission.transport is None and (siblings or Siblings()).number == 0:
                _warn_of_exposure(settings)
            try:
                await _unless_ended(tasks, asyncio.Event().wait())
            finally:
                log.info("stopping: %(clients)d clients", {"clients": len(subscribers)})
                await _drain(settings, server, readiness, keeper, at_once=not stop.is_set())
    finally:
        metrics.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await replayer.close()
        if result_sets is not None:
            await result_sets.close()
        await source.close()


async def _drain(
    settings: Settings, server: Acceptor, readiness: Readiness, keeper: Keeper, *, at_once: bool
) -> None:
    """Report "not ready" for `drain_delay_seconds` (not if `at_once`), then say goodbye to all clients."""
    readiness.leave()
    if not at_once:
        await asyncio.sleep(settings.drain_delay_seconds)
    readiness.drain()
    server.stop()
    await keeper.drain(CloseReason.SHUTDOWN, settings.drain_seconds)
    await server.close_all_connections()


def _warn_of_exposure(settings: Settings) -> None:
    """Log who can read everything from a server without access rules."""
    if (open_to := exposure(settings)) is not None:
        log.warning("no access rules: %(readers)s can read all of %(readable)s; %(remedy)s", open_to)


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
    configuration: Configuration | None,
    stopped: Callable[[], bool],
    siblings: Siblings,
    *,
    sandbox: bool,
) -> int:
    """Run one process: the server, and in one of the sandbox's processes a writer. Returns the exit code."""
    try:
        asyncio.run(_run(settings, uri, configuration, stopped, siblings, sandbox=sandbox))
    except BrookError as error:
        click.echo(f"babbling-brook: {error}", err=True)
        return 1
    return 0


async def _run(
    settings: Settings,
    uri: str | None,
    configuration: Configuration | None,
    stopped: Callable[[], bool],
    siblings: Siblings,
    *,
    sandbox: bool,
) -> None:
    async with _admission(settings, uri, configuration) as admission:
        source = open_source(settings, uri)
        if uri is None or not sandbox:
            await serve(settings, source, admission, stopped, siblings)
            return
        # Late imports: the other modes must run without the driver.
        from sources.sandbox import Insertion, babble

        with contextlib.closing(Insertion(uri)) as insertion:
            serving = serve(settings, source, admission, stopped, siblings, insertion)
            if siblings.number:
                await serving
                return
            writer = asyncio.create_task(babble(uri, settings.database, settings.collection[0]))
            try:
                await _unless_ended([writer], serving)
            finally:
                writer.cancel()


@contextlib.asynccontextmanager
async def _admission(
    settings: Settings, uri: str | None, configuration: Configuration | None
) -> AsyncIterator[Admission]:
    """The admission by the configured rules; without any, it lets everyone in."""
    if uri is None:
        yield Everyone(SingleStream(private=True))
        return
    # Late imports: the demo must run without bson.
    from brook.namespaces import Namespaces
    from brook.parameters import CollectionStreams

    namespaces = Namespaces.of(settings)
    if configuration is None or configuration.access is None:
        streams: Streams = CollectionStreams(namespaces)
        if configuration is not None and configuration.streams:
            from brook.access.named import NamedStreams

            streams = NamedStreams(configuration.streams, streams)
        yield Everyone(streams)
        return
    from brook.access.guard import Guard
    from brook.access.streams import Policy

    policy = Policy(configuration.streams, namespaces, signed=configuration.access.signed_streams)
    with contextlib.closing(Fetcher()) as fetcher:
        yield Guard.of(configuration.access, policy, fetcher)


def _result_sets(settings: Settings, source: Source, history: History) -> ResultSets | None:
    """Return the result sets of live mode; None for the demo, which has no documents."""
    if not source.has_documents:
        return None
    # A late import: the demo must run without bson.
    from brook.live.result_sets import ResultSets

    return ResultSets(settings, source, history, problem_of=problem_of)


@click.group(
    invoke_without_command=True,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@options.config_option
@click.option("--check-config", is_flag=True, help="Check the file of --config, and exit.")
@click.option("--demo", is_flag=True, envvar="BROOK_DEMO", help="Play a scripted demo to each client.")
@click.option("--mongo", metavar="URI", envvar="BROOK_MONGO", help="Follow the MongoDB at this URI.")
@click.option("--check", is_flag=True, help="With --mongo: report problems, with remedies, and exit.")
@click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", help="Output of --check."
)
@click.option("--sandbox", is_flag=True, envvar="BROOK_SANDBOX", help="Follow a throwaway MongoDB.")
@options.setting_options
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
    check_config: bool,
    **values: Any,
) -> None:
    """Push MongoDB's changes to browsers, live, over Server-Sent Events.

    Choose one of --demo, --mongo URI and --sandbox.
    """
    if context.invoked_subcommand is not None:
        return
    configuration: Configuration | None = context.obj
    if check_config:
        if configuration is None:
            raise click.UsageError("--check-config takes --config FILE", context)
        click.echo(f"the configuration is valid: {configuration}")
        for warning in configuration.warnings:
            click.echo(f"warning: {warning}")
        return
    mode = options.mode(context, {"demo": demo, "mongo": mongo is not None, "sandbox": sandbox})
    if mode == "mongo" and context.get_parameter_source("database") is ParameterSource.DEFAULT:
        values["database"] = named_database(mongo or "") or values["database"]
    try:
        if configuration is not None:
            values |= options.followed(context, mode, configuration, values)
        settings = Settings(**values)
    except SettingsError as error:
        raise click.UsageError(str(error), context) from None
    unnamed = mode == "mongo" and _leaves_collection_open(context, mongo or "")
    if check:
        if mode != "mongo" or mongo is None:
            raise click.UsageError("--check takes --mongo URI", context)
        _check(settings, mongo, configuration, output, unnamed=unnamed)
    if unnamed:
        raise SystemExit(f"babbling-brook: {ask_for_collection(mongo or '', settings.database)}")
    logs.configure(settings.log_format)
    _start(settings, mode, mongo, configuration)


def _start(settings: Settings, mode: str, mongo: str | None, configuration: Configuration | None) -> NoReturn:
    """Run the server in its processes, and end this one with their exit code."""
    allow_many()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    stop = StopRequest()
    with contextlib.ExitStack() as stack:
        try:
            settings = listening.choose_port(settings)
            passed_on = certificate.check(settings)
            uri = _start_sandbox(stack, stop) if mode == "sandbox" else mongo if mode == "mongo" else None
        except OperatorError as error:
            raise SystemExit(f"babbling-brook: {error}") from None
        if configuration is not None:
            _tell(configuration, settings)
        siblings_of = siblings(settings.processes, stack)
        code = workers.run(
            settings.processes,
            lambda number: work(
                settings, uri, configuration, stop, siblings_of(number), sandbox=mode == "sandbox"
            ),
            passed_on,
            stop,
        )
    _exit(code)


def _tell(configuration: Configuration, settings: Settings) -> None:
    """Log the access rules, and what is odd about them."""
    warnings = list(configuration.warnings)
    if configuration.access is not None:
        log.info("access rules: %(rules)s", {"rules": configuration})
        if (unnamed := unnamed_host(settings)) is not None:
            warnings.append(unnamed)
    for warning in warnings:
        log.warning("%(warning)s", {"warning": warning})


def _leaves_collection_open(context: click.Context, uri: str) -> bool:
    """True if the URI names a database, and nothing names another one or a collection."""
    if context.obj is not None and context.obj.streams:
        return False
    sources = map(context.get_parameter_source, ("database", "collection", "namespace"))
    return bool(named_database(uri)) and set(sources) == {ParameterSource.DEFAULT}


def _check(
    settings: Settings, uri: str, configuration: Configuration | None, output: str, *, unnamed: bool
) -> NoReturn:
    """Print the findings, and exit: with 1 if the server cannot work."""
    # Late imports: the other modes must run without the driver.
    from sources.mongo import doctor
    from sources.mongo.indexes import FilteredStream

    # The findings hold the warnings that the opening of the change stream would log.
    logging.getLogger().addHandler(logging.NullHandler())
    fields = {} if configuration is None else configuration.filtered_fields()
    streams = [FilteredStream(name, namespace, paths) for (name, namespace), paths in fields.items()]
    examining = doctor.examine(uri, settings, unnamed=unnamed, streams=streams)
    findings = [*asyncio.run(examining), *certificate.examine(settings), *host.examine()]
    click.echo(finding.as_json(findings) if output == "json" else finding.text(findings))
    raise SystemExit(0 if finding.works(findings) else 1)


def _start_sandbox(stack: contextlib.ExitStack, stop: StopRequest) -> str:
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


main.add_command(tokens.token)
main.add_command(tokens.check_token)

if __name__ == "__main__":
    main()
