"""The docs: what they say is so, their commands work, and their examples run."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import (
    ObjectId,
)
from click.testing import CliRunner
from pymongo.errors import OperationFailure

import server
from brook import errors
from brook.delivery.subscriber import CloseReason
from brook.event import ResetReason
from brook.parameters import PARAMETERS
from brook.settings import Settings
from sources.mongo import errors as mongo_errors
from tests.support.browser import chromium_fixture, page_fixture  # noqa: F401
from tests.support.commands import SECONDS, Command, blocks, pattern, replaced
from tests.support.nginx import new_nginx_fixture, shipped_site  # noqa: F401
from tests.support.ports import free_port
from tests.support.processes import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def prose(page: Path) -> str:
    return re.sub(r"^```.*\n(?:.*\n)*?```$", "", page.read_text(), flags=re.M)


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def table(page: Path, first_column: str) -> list[list[str]]:
    """The rows of the table whose heading begins with this column."""
    match = re.search(rf"^\| {first_column} \|.*\n\|[-|]+\n((?:\|.*\n)+)", page.read_text(), re.M)
    assert match, f"{page.name} has no table {first_column}"
    return [
        [cell.strip().strip("`") for cell in row.strip("| ").split(" |")] for row in match[1].splitlines()
    ]


# -- what they refer to ----------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """A heading's anchor, as on GitHub."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    found = re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", prose(page))
    return [((page.parent / path).resolve() if path else page, anchor) for path, anchor in found]


@every_page
def test_links_lead_somewhere(page):
    for target, anchor in links(page):
        assert target.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(target), f"{target.name} has no heading #{anchor}"


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        new = {target for page in new for target, _ in links(page) if target.suffix == ".md"} - reached
    assert reached == set(PAGES)


@every_page
def test_files_that_are_named_exist(page):
    named = [code for code in inline_code(page) if re.fullmatch(r"\w[\w./-]*/([\w-]+\.(py|md|conf))?", code)]
    for path in named:
        # One that a reader is told to write is named after what it is about: lines.
        assert (ROOT / path).exists() or "lines" in path, f"{page.name} names {path}"


@every_page
def test_make_targets_that_are_named_exist(page):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    code = "\n".join([*inline_code(page), *(block.text for block in blocks(page))])
    assert set(re.findall(r"^make ([a-z]+)", code, re.M)) <= set(targets)


# Options of other programs.
FOREIGN = {
    "--replSet",
    "--app",
    "--build",
    "--dbpath",
    "--env",
    "--eval",
    "--file",
    "--publish",
    "--tag",
    "--compressed",
    "--strict",
    "--lines",
    "--data-urlencode",
    "--generate-hashes",
    "--no-build-isolation",
    "--only-binary",
    "--quiet",
    "--package-lock-only",
    "--require-hashes",
    "--retry",
    "--retry-connrefused",
    "--retry-delay",
    "--silent",
    "--universal",
    # Of the conformance suite.
    "--keep-alive-seconds",
    "--rule",
    "--timeout-seconds",
    "--token",
}


@every_page
def test_options_and_variables_that_are_named_exist(page):
    known = "".join(
        CliRunner().invoke(server.main, [*command, "--help"], terminal_width=200).output
        for command in ([], ["token"], ["check-token"])
    )
    text = "\n".join([*inline_code(page), *(block.text for block in blocks(page))])
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) - FOREIGN
    assert options <= set(re.findall(r"--[\w-]+", known))
    assert set(re.findall(r"(?<!_)BROOK_[A-Z_]+", text)) <= set(
        re.findall(r"BROOK_[A-Z_]+", known + " BROOK_DEMO BROOK_MONGO BROOK_SANDBOX")
    )


UNITS = {"": 1, "s": 1, "min": 60, "KiB": 2**10, "MiB": 2**20}


@every_page
def test_defaults_that_are_mentioned_are_the_defaults(page):
    for name, number, unit in re.findall(r"`--([a-z-]+)`\s\(([\d,]+) ?(\w*)\)", prose(page)):
        default = getattr(Settings(), name.replace("-", "_"))
        assert default == int(number.replace(",", "")) * UNITS[unit], f"{page.name}: --{name}"


def test_readme_begins_with_what_it_is_and_the_two_commands():
    readme = ROOT / "README.md"
    assert readme.read_text().startswith("# Babbling Brook\n")
    first, second = (block.text for block in blocks(readme)[:2])
    assert first.splitlines() == ["git clone REPOSITORY babbling-brook && cd babbling-brook", "make run"]
    assert second == "make test\n"


def test_readme_says_in_its_first_screen_what_happens_after_a_cut_a_restart_and_a_lost_log():
    before, _, _ = (ROOT / "README.md").read_text().partition("\n## ")
    assert re.findall(r"^- \*\*A (\w+ ?\w*) ", before, re.M) == ["cut loses", "restart loses", "lost log"]


@pytest.mark.parametrize(
    "heading", re.findall(r"^### (.*)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)
)
def test_every_trouble_has_a_cause_and_a_remedy(heading):
    _, _, after = (ROOT / "docs" / "troubleshooting.md").read_text().partition(f"\n### {heading}\n")
    entry = re.split(r"^##", after, maxsplit=1, flags=re.M)[0]
    assert re.findall(r"^\*\*(\w+)\.\*\* ", entry, re.M) == ["Cause", "Remedy"]


# The words by which people look for help.
SEARCHED = (
    "EventSource", "CORS", "buffer", "httpx.ReadTimeout", "six connections", "HTTP/1.1", "replica set",
    "ChangeStreamHistoryLost", "nginx", "oplog", "authentication", "WebSocket", "backpressure", "rate limit",
    "Atlas", "TypeScript", "React", "TLS", "highly available", "Prometheus", "embed", "Docker", "MIME type",
    "not authorized", "Too many open files",
)  # fmt: skip


@pytest.mark.parametrize("words", SEARCHED)
def test_words_that_people_search_for_are_in_the_help(words):
    text = "".join(
        (ROOT / page).read_text() for page in ("README.md", "docs/troubleshooting.md", "docs/faq.md")
    )
    assert words.lower() in text.lower()


def test_every_decision_says_context_decision_and_consequences():
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(numbers) == len(set(numbers))
    for page in pages:
        assert re.findall(r"^## (.*)$", page.read_text(), re.M) == ["Context", "Decision", "Consequences"]
        title = re.match(r"# (.*)", page.read_text())
        assert f"- [{title[1]}]({page.name})" in (page.parent / "README.md").read_text()


# -- what protocol.md says of the code -------------------------------------------------------------

LIVE = blocks(ROOT / "docs" / "live.md")
PROTOCOL = ROOT / "docs" / "protocol.md"


def test_every_reason_of_a_reset_is_documented():
    assert [row[0] for row in table(PROTOCOL, "reason \\| cause")] == list(ResetReason)


def test_every_goodbye_is_documented():
    not_in_a_bye = {
        CloseReason.CLIENT_LEFT, CloseReason.WRITE_TIMEOUT, CloseReason.REPLAY_FAILED, CloseReason.REFUSED
    }  # fmt: skip
    said = set(CloseReason) - not_in_a_bye
    assert {row[0] for row in table(PROTOCOL, "reason \\|")} == said


def test_every_parameter_is_documented():
    assert [row[0] for row in table(PROTOCOL, "parameter")] == ["ns", "since", *PARAMETERS[1:]]


def test_every_error_that_is_raised_is_documented():
    folders = ("brook", "handlers", "sources")
    code = "".join(path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py"))
    kinds = [errors.ClientError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    raised = {kind.code for kind in kinds if f"raise {kind.__name__}(" in code}
    assert {row[1] for row in table(PROTOCOL, "status")} == raised | {"method-not-allowed"}


def test_no_id_gets_into_the_log_with_a_message_of_mongodb():
    # Seen from MongoDB 6.0, code 280. The id has the `_id` of a document in it.
    token = "826B031539000000162B022C0100296E5A1004ABAC47309E87DD463C5F6964003C736563726574000004"
    message = f'cannot resume stream; the resume token was not found. {{_data: "{token}"}}'
    line = mongo_errors.one_line(OperationFailure(message, 280))
    assert "the resume token was not found" in line
    assert "736563726574" not in line


def test_every_endpoint_answers(start_server):
    demo = start_server("--demo")
    paths = [path for row in table(PROTOCOL, "request") for path in re.findall(r"GET (/\w*)(?=$|`)", row[0])]
    assert paths == ["/", "/stream", "/streams", "/healthz", "/readyz", "/metrics"]
    for path in paths:
        with urllib.request.urlopen(demo.url + path, timeout=SECONDS) as answer:
            assert answer.status == 200


# -- the commands ----------------------------------------------------------------------------------


# What the docs' lines for mongosh mean.
WRITES: dict[str, Callable[[Any], Any]] = {
    'db.creatures.insertOne({_id: ObjectId("5bfef740419aeed958bbfa1b"), type: "crawdad"})': lambda db: (
        db.creatures.insert_one({"_id": ObjectId("5bfef740419aeed958bbfa1b"), "type": "crawdad"})
    ),
    'db.creatures.updateOne({type: "crawdad"}, {$set: {size: 3}})': lambda db: db.creatures.update_one(
        {"type": "crawdad"}, {"$set": {"size": 3}}
    ),
    'db.creatures.deleteOne({type: "crawdad"})': lambda db: db.creatures.delete_one({"type": "crawdad"}),
}


@pytest.fixture
def kinds(sandbox, database, start_server) -> dict[str, Any]:
    """A server for each kind of block."""
    mongo = start_server("--mongo", sandbox.uri, "--database", database.name)
    return {"sh demo": start_server("--demo"), "sh mongo": mongo, "sh sandbox": start_server("--sandbox")}


def test_commands_of_the_protocol_say_what_the_docs_say(kinds, database):
    tested = 0
    first_id = ""
    page = blocks(PROTOCOL)
    for number, block in enumerate(page):
        if block.info not in kinds:
            assert not block.info.startswith("sh"), "what is not run can be wrong"
            continue
        follows = [after for after in page[number + 1 : number + 3] if after.info in ("js mongo", "text")]
        expected = pattern(next(after.text for after in follows if after.info == "text"))
        writes = [after.text for after in follows if after.info == "js mongo"]
        for line in block.text.splitlines():
            command = line.replace("localhost:3333", f"127.0.0.1:{kinds[block.info].port}")
            with Command(command, ID=first_id) as running:
                for number_of_events, write in enumerate("".join(writes).splitlines(), start=1):
                    running.until(r"(?s)retry.*\n\nid.*\n\n")
                    WRITES[write](database)
                    # One after the other: an update whose document is gone already would be left out.
                    running.until(r"(?s)(.*\ndata: .*?\n\n)" + f"{{{number_of_events}}}")
                running.until(expected)
                if writes:
                    first_id = re.findall(r"^id: (t.*-.*)$", running.said, re.M)[0]
            tested += 1
    assert tested == 14


def test_commands_of_live_queries_say_what_the_docs_say(sandbox, database, start_server):
    database.creatures.insert_many([{"_id": 1, "type": "newt"}, {"_id": 2, "type": "otter"}])
    server = start_server("--mongo", sandbox.uri, "--database", database.name)
    query, writes, count, documents = (block for block in LIVE if block.info.endswith(" live"))
    says, says_count, says_documents = (block for block in LIVE if block.info == "text")
    writing = iter(
        (
            lambda: database.creatures.insert_one({"_id": 3, "type": "newt"}),
            lambda: database.creatures.update_one({"_id": 1}, {"$set": {"type": "old newt"}}),
        )
    )
    with Command(query.text.strip().replace("localhost:3333", f"127.0.0.1:{server.port}")) as running:
        for done in range(len(writes.text.splitlines())):
            running.until(r"(?s).*event: live\n.*?\n\n" + r"(?s:.*event: changes\n.*?\n\n)" * done)
            next(writing)()
        running.until(pattern(says.text))
    for block, expected in ((count, says_count), (documents, says_documents)):
        with Command(block.text.strip().replace("localhost:3333", f"127.0.0.1:{server.port}")) as running:
            running.until(pattern(expected.text.rstrip("\n")))


def test_page_of_the_readme_shows_the_largest_ones_from_another_origin(
    sandbox, database, start_server, page, tmp_path
):
    database.creatures.insert_many([{"type": "newt", "size": 1}, {"type": "otter", "size": 3}])
    mongo = start_server("--mongo", sandbox.uri, "--database", database.name)
    (block,) = [block for block in blocks(ROOT / "README.md") if block.info == "html"]
    text = block.text.replace("http://localhost:3333", mongo.url)
    assert text.count(mongo.url) == 2
    (tmp_path / "page.html").write_text(text)
    items = "[...document.querySelectorAll('li')].map((item) => item.textContent).join('; ')"

    page.open((tmp_path / "page.html").as_uri())
    page.wait(f"{items} === 'otter, size 3; newt, size 1'")
    database.creatures.update_one({"type": "newt"}, {"$set": {"size": 4}})
    page.wait(f"{items} === 'newt, size 4; otter, size 3'")
    database.creatures.delete_one({"type": "otter"})
    page.wait(f"{items} === 'newt, size 4'")


def test_lines_of_the_readme_follow_the_data_in_a_browser(sandbox, database, start_server, page):
    mongo = start_server("--mongo", sandbox.uri, "--database", database.name)
    (block,) = [block for block in blocks(ROOT / "README.md") if block.info == "js"]
    page.open(mongo.url + "/healthz", policy=False)
    page.run(
        """
        window.held = {};
        window.put = (doc) => { held[doc._id] = doc.type };
        window.remove = (id) => { delete held[id] };
        """
        + replaced(block.text, ("http://localhost:3333", ""))
        + "changes.onopen = () => { window.opened = true };"
    )
    page.wait("window.opened")
    database.creatures.insert_many([{"_id": "a", "type": "newt"}, {"_id": "b", "type": "otter"}])
    page.wait("held.b === 'otter'")
    database.creatures.delete_one({"_id": "a"})
    database.creatures.update_one({"_id": "b"}, {"$set": {"type": "old otter"}})
    page.wait("held.b === 'old otter'")
    assert page.run("return held") == {"b": "old otter"}
    page.run("held.b = 'a copy that a reload throws away'")
    database.creatures.drop()
    page.wait("window.held === undefined")


# -- the examples ----------------------------------------------------------------------------------


@pytest.fixture
def run_python() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Runs a program of the docs, and waits until it serves."""
    programs: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, port: int) -> subprocess.Popen[bytes]:
        program = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=os.environ | {"PYTHONPATH": "."}
        )
        programs.append(program)
        wait_for_port(port)
        return program

    yield run
    for program in programs:
        program.kill()
        program.wait()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, f"nothing listens on port {port}"
        time.sleep(0.02)


def stream(port: int, last_id: str = "") -> Command:
    return Command(f"curl -N -H 'Last-Event-ID: {last_id}' http://127.0.0.1:{port}/stream")


def test_example_source_streams_and_resumes_the_lines_of_a_file(tmp_path, run_python):
    log = tmp_path / "log"
    log.write_text("before\nhalf a ")
    port = free_port()

    def write(text: str) -> None:
        with log.open("a") as file:
            file.write(text)

    program = run_python("docs/example_source.py", str(log), str(port), port=port)
    with stream(port) as client:
        client.until(r"retry: 3000\n\nid: 000000000000007\n\n$")
        write("line\none\r\n")
        client.until(
            r"retry: 3000\n\nid: .*\n\nid: 000000000000019\ndata: half a line\n\n"
            r"id: 000000000000024\ndata: one\ndata: \n\n$"
        )
        first = client.last_id()
    write("two\nthree\n")
    with stream(port, first) as client:
        client.until(r"retry: 3000\n\nid: .*\ndata: two\n\nid: .*\ndata: three\n\n$")
        second = client.last_id()

    # What was written while it was down is in the file, which is older than the new one's memory.
    program.kill()
    program.wait()
    write("four\n")
    run_python("docs/example_source.py", str(log), str(port), port=port)
    with stream(port, second) as client:
        client.until(r"retry: 3000\n\nid: .*\ndata: four\n\n$")
        write("five\n")
        client.until(r"retry: 3000\n\nid: .*\ndata: four\n\nid: .*\ndata: five\n\n$")
    for wrong in ("garbage", "000000000000020", "999999999999999"):
        with stream(port, wrong) as client:
            client.until(rf'retry: 3000\n\nid\nevent: reset\ndata: .*"since":"{wrong}".*\n\nid: \d+\n\n$')


def test_example_source_says_what_is_wrong(tmp_path):
    command = [sys.executable, "docs/example_source.py", str(tmp_path / "nothing"), str(free_port())]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"cannot read {tmp_path / 'nothing'}: No such file or directory"]


def test_smallest_source_of_the_docs_streams_and_resumes_from_memory(tmp_path, run_python):
    (block,) = [block for block in blocks(ROOT / "docs" / "sources.md") if block.info == "python"]
    port = free_port()
    program = [
        "import asyncio",
        "from datetime import UTC, datetime",
        "from brook.event import Batch, Event",
        "from brook.settings import Settings",
        "from brook.source import Source",
        "from server import serve",
        block.text,
        f"asyncio.run(serve(Settings(port={port}), Clock()))",
    ]
    (tmp_path / "clock.py").write_text("\n".join(program))
    run_python(str(tmp_path / "clock.py"), port=port)
    with stream(port) as client:
        first = client.until(r"retry: 3000\n\nid: (.*)\ndata: \1\n\n")[1]
        second = client.until(r"(?s)retry(?:.*?\ndata: (\S*)\n\n){2}")[1]
    with stream(port, first) as client:
        client.until(rf"retry: 3000\n\nid: {re.escape(second)}\ndata: ")


# -- the proxies -----------------------------------------------------------------------------------

CURL = "curl --insecure --http2 -iN"

AWAY = r'retry: 3000\nevent: problem\ndata: \{.*"status":503,"code":"not-ready".*\}\n\n$'


def wait_for_end(commands: list[Command]) -> Command:
    """The first that ends."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for command in commands:
            if command.ended:
                return command
        time.sleep(0.02)
    raise AssertionError("none has ended")


@pytest.fixture
def run_proxy() -> Iterator[Callable[..., None]]:
    proxies: list[subprocess.Popen[bytes]] = []

    def run(port: int, *command: str, **environment: str) -> None:
        proxies.append(subprocess.Popen(command, env=os.environ | environment))
        wait_for_port(port)

    yield run
    for proxy in proxies:
        proxy.terminate()
        proxy.wait(SECONDS)


@pytest.fixture
def nginx(tmp_path, new_nginx) -> Callable[..., str]:
    """Runs deploy/nginx.conf with ports, certificate and files of its own; returns its address."""

    def run(*upstreams: int, tls: bool = True) -> str:
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        nginx = new_nginx()
        nginx.start(shipped_site(nginx.port, *upstreams, certificate=(certificate, key) if tls else None))
        return f"{'https' if tls else 'http'}://127.0.0.1:{nginx.port}"

    return run


def test_streams_through_nginx_survive_the_death_of_one_of_two_servers(
    sandbox, database, start_server, nginx
):
    options = ("--mongo", sandbox.uri, "--database", database.name, "--heartbeat-seconds", "600")
    first, second = start_server(*options), start_server(*options)
    curl = f"{CURL} {nginx(first.port, second.port)}"
    opening = r"(?s)HTTP/2 200 \n.*\n\nretry: 3000\n\nid: t\S+\n\n"
    with Command(f"{curl}/stream") as one, Command(f"{curl}/stream --compressed") as other:
        both = [one, other]
        for client in both:
            client.until(opening)
        assert "content-encoding: gzip\n" not in one.said
        assert "content-encoding: gzip\n" in other.said
        database.creatures.insert_one({"_id": 1})
        for client in both:
            client.until(rf'{opening}id: \S+\ndata: {{"_id":1}}\n\n$')

        # One stream at each server: so whichever dies, one is cut off and the other is not.
        first.kill()
        cut = wait_for_end(both)
        (kept,) = set(both) - {cut}
        database.creatures.insert_one({"_id": 2})
        with Command(f"{curl}/stream -H 'Last-Event-ID: {cut.last_id()}'") as again:
            again.until(r'(?s)HTTP/2 200 \n.*\n\nretry: 3000\n\nid: \S+\ndata: {"_id":2}\n\n')
        kept.until(rf'{opening}id: \S+\ndata: {{"_id":1}}\n\nid: \S+\ndata: {{"_id":2}}\n\n')


def test_stream_through_nginx_without_a_server_is_one_that_ends_at_once(nginx):
    curl = f"{CURL} {nginx(free_port())}"
    with Command(f"{curl}/stream") as client:
        client.until(rf"(?s)HTTP/2 200 \n.*\ncontent-type: text/event-stream\n.*\n\n{AWAY}")
    with Command(f"{curl}/") as page:
        page.until(r"HTTP/2 502 \n")


def test_browser_comes_back_through_nginx_when_there_is_a_server_again(nginx, page, start_server):
    port = free_port()
    address = nginx(port, tls=False)
    page.open(address)
    assert "502 Bad Gateway" in page.run("return document.title")
    page.run(
        """
        window.problems = [], window.messages = [];
        window.stream = new EventSource("/stream");
        stream.addEventListener("problem", (event) => problems.push(JSON.parse(event.data).code));
        stream.onmessage = (event) => messages.push(event.data);
        """
    )
    assert page.wait("problems[0]") == "not-ready"
    start_server("--demo", port=port)
    assert page.wait("messages[0]") == "Sending 1"


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not among what the tests install")
def test_streams_through_caddy_arrive_as_they_come(tmp_path, start_server, run_proxy):
    port, upstream = free_port(), free_port()
    (tmp_path / "Caddyfile").write_text(
        "{\n\tadmin off\n}\n"
        + replaced(
            (ROOT / "deploy" / "Caddyfile").read_text(),
            ("127.0.0.1:3333", f"127.0.0.1:{upstream}"),
            ("brook.example.org {", f"http://127.0.0.1:{port} {{"),
            ("lb_try_duration 5s", "lb_try_duration 100ms"),
        )
    )
    run_proxy(port, "caddy", "run", "--config", str(tmp_path / "Caddyfile"), HOME=str(tmp_path))
    with stream(port) as client:
        client.until(AWAY)
    start_server("--demo", port=upstream)
    with stream(port) as client:
        client.until(r"retry: 3000\n\nid: demo-1\ndata: Sending 1\n\n$")
