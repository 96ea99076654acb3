"""The wheel and the sdist: their contents, and an installation of each, by the commands of the README."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.clone import MODULES, copy_to, name_of
from tests.support.commands import blocks
from tests.support.processes import ROOT
from tests.support.raw_client import RawClient, Received

PROGRAMS = Path(sys.executable).parent
README = ROOT / "README.md"


@dataclass(frozen=True)
class Distributions:
    """A clone, and the files that were built from it."""

    clone: Path
    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Distributions:
    """The sdist of a clone, and the wheel of the sdist: so a file that the sdist lacks is missing in both."""
    clone, folder = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    copy_to(clone)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, clone]
    subprocess.run(command, check=True, capture_output=True, timeout=170)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Distributions(clone, sdist, wheel)


def environment() -> dict[str, str]:
    """This environment, without the variables that would change an installed server."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("BROOK_", "PYTHON"))}
    # uv reads neither the system's certificates nor pip's configuration unless it is told to.
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    index = {"UV_DEFAULT_INDEX": asked.stdout.strip()} if asked.returncode == 0 else {}
    return {"UV_SYSTEM_CERTS": "1"} | index | ours


@pytest.fixture(scope="session")
def install(tmp_path_factory):
    """Installs by a command of the README, and returns the folder of the installed program."""
    # The metadata says which packages are needed; the versions are those of this environment, not the newest.
    constraints = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    others = [one for one in metadata.distributions() if one.metadata["Name"] != "babbling-brook"]
    constraints.write_text("".join(f"{one.metadata['Name']}=={one.version}\n" for one in others))
    options = {
        "pipx": ["--skip-maintenance", f"--pip-args=--constraint={constraints}"],
        "uv": ["--constraints", str(constraints)],
    }

    def run(command: str, target: str, folder: Path, *more: str) -> Path:
        program, *words = command.split()
        assert words[-1] == "."
        home = tmp_path_factory.mktemp(program)
        places = {"UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin"} | {
            "PIPX_HOME": "tools", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man"
        }  # fmt: skip
        done = subprocess.run(
            [PROGRAMS / program, *words[:-1], *options[program], *more, target],
            env=environment() | {name: str(home / place) for name, place in places.items()},
            cwd=folder, capture_output=True, text=True, timeout=170, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return home / "bin"

    return run


@contextmanager
def serving(programs: Path, folder: Path, *arguments: str) -> Iterator[int]:
    """The port of an installed server that was started in a folder; it ends well and leaves nothing there."""
    command = [programs / "babbling-brook", *arguments, "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            said = iter(server.stderr.readline, "")
            yield next(int(match[1]) for line in said if (match := re.search(r"http://127.*:(\d+)", line)))
            server.terminate()
            server.stderr.read()
            assert server.wait(30) == 0
        finally:
            server.kill()
    assert list(folder.iterdir()) == []


def first_event(port: int) -> Received:
    async def listen() -> Received:
        with closing(await RawClient(port).connect()) as client:
            return await client.next()

    return asyncio.run(listen())


def test_wheel_holds_the_server_and_its_page_and_nothing_else(built):
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {str(path.relative_to(ROOT)) for path in MODULES}
    expected |= {f"static/{path.name}" for path in (ROOT / "static").iterdir() if path.is_file()}
    assert names == expected
    assert built.wheel.name.startswith("babbling_brook-")


def test_sdist_holds_the_licence_and_the_metadata(built):
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "setup.py", "pyproject.toml", "PKG-INFO"} <= names


def test_index_would_accept_and_show_both(built):
    checked = subprocess.run(
        [PROGRAMS / "twine", "check", "--strict", built.sdist, built.wheel],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("PASSED") == 2


COMMANDS = next(block.text for block in blocks(README) if "pipx install" in block.text).splitlines()


def test_readme_installs_with_pipx_and_with_uv():
    assert COMMANDS == ["pipx install .", "uv tool install ."]


@pytest.mark.parametrize("kind", ["clone", "wheel"])
@pytest.mark.parametrize("command", COMMANDS)
def test_installed_server_plays_the_demo_from_another_folder(command, kind, built, install, tmp_path):
    target, folder = (".", built.clone) if kind == "clone" else (str(built.wheel), tmp_path)
    # pipx uses uv where it is installed; many of its users have pip alone, which takes ten times as long.
    backend = ["--backend", "pip" if kind == "clone" else "uv"] if command.startswith("pipx") else []
    programs = install(command, target, folder, *backend)
    # The demo needs few packages: one that the metadata lacks must fail here.
    python = (programs / "babbling-brook").resolve().parent / "python"
    every_module = "; ".join(f"import {name_of(path)}" for path in MODULES)
    subprocess.run([python, "-c", every_module], check=True, cwd=tmp_path, env=environment(), timeout=60)
    with serving(programs, tmp_path, "--demo") as port:
        assert first_event(port).data == "Sending 1"
        assert_page_is_whole(port)


def assert_page_is_whole(port: int) -> None:
    def read(path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
            return answer.read()

    page = read("").decode()
    assert "<title>Babbling Brook</title>" in page
    linked = re.findall(r'(?:src|href)="(static/[^"]+)"', page)
    assert linked
    assert all(read(name) for name in linked)


def test_installed_sandbox_sends_an_event_from_another_folder(built, install, tmp_path):
    programs = install("uv tool install .", f"{built.wheel}[sandbox]", tmp_path)
    with serving(programs, tmp_path, "--sandbox") as port:
        assert '"_id"' in first_event(port).data


def test_shell_completes_options_as_documented(tmp_path):
    (block,) = [block for block in blocks(README) if "_COMPLETE=bash_source" in block.text]
    keys = 'COMP_WORDS=(babbling-brook --heart); COMP_CWORD=1; "$F" babbling-brook; echo "${COMPREPLY[@]}"'
    script = f"{block.text}\nF=$(complete -p babbling-brook | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n{keys}"
    said = subprocess.run(
        ["bash", "--norc", "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path,
        env=environment() | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}, timeout=60,
    )  # fmt: skip
    assert said.stdout == "--heartbeat-seconds\n"
