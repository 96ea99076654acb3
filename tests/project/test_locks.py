"""The locks: that they are what setup.py asks for, all of it and nothing else, on any machine."""

from __future__ import annotations

import json
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from locks.lockfile import LOCKS, NODE, ROOT, SOURCES, Locked, differences, parse, versions
from locks.lowest import lowest
from locks.setup_py import requirements

# Each Python that the project supports, on Linux with either processor and on a Mac.
MACHINES = [
    {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": system,
     "platform_machine": machine, "os_name": "posix", "implementation_name": "cpython",
     "platform_python_implementation": "CPython"}
    for version in ("3.11", "3.12", "3.13", "3.14")
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
]  # fmt: skip

each_lock = pytest.mark.parametrize("name", SOURCES)


def read(name: str) -> list[Locked]:
    return parse((LOCKS / name).read_text(encoding="utf-8"))


def applies(requirement: Requirement, machine: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**machine, "extra": ""})


def asked(name: str) -> dict[str, list[Requirement]]:
    """What a lock is made from: by the source's name in the lock, its requirements."""
    sources = {}
    words = iter(SOURCES[name])
    for word in words:
        if word == "setup.py":
            sources["babbling-brook (setup.py)"] = requirements()
        elif word == "--extra":
            sources["babbling-brook (setup.py)"] += requirements(next(words))
        elif word == "--constraint":
            next(words)
        else:
            lines = (ROOT / word).read_text(encoding="utf-8").splitlines()
            sources[f"-r {word}"] = [Requirement(line) for line in lines if line and line[0] != "#"]
    return sources


@each_lock
def test_lock_satisfies_every_range_on_every_machine(name):
    locked = read(name)
    for machine in MACHINES:
        here = {one.name: one.version for one in locked if applies(one.requirement, machine)}
        for source in asked(name).values():
            for wanted in source:
                if applies(wanted, machine):
                    version = here.get(canonicalize_name(wanted.name))
                    assert version, f"{name} lacks {wanted}: make upgrade"
                    assert wanted.specifier.contains(version), (
                        f"{name} has {version}, not {wanted}: make upgrade"
                    )


@each_lock
def test_lock_has_only_what_somebody_asks_for(name):
    locked = read(name)
    sources = asked(name)
    # The lock says of each package for which others it is there. Followed from what the sources ask for now.
    needed = {source: {canonicalize_name(one.name) for one in wanted} for source, wanted in sources.items()}
    reached: set[str] = set()
    while True:
        further = {
            one.name for one in locked for via in one.via if via in reached or one.name in needed.get(via, ())
        } - reached
        if not further:
            break
        reached |= further
    assert {one.name for one in locked} - reached == set(), f"{name} has more than is asked for: make upgrade"


@each_lock
def test_each_package_of_a_lock_has_one_version_and_hashes(name):
    locked = read(name)
    for machine in MACHINES:
        here = [one.name for one in locked if applies(one.requirement, machine)]
        assert len(here) == len(set(here))
    for one in locked:
        assert one.version
        assert one.hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in one.hashes)
    # Pip itself and what builds the project are locked, too, wherever an environment is set up.
    is_environment = "locks/pip.in" in SOURCES[name]
    assert is_environment == ({"pip", "setuptools"} <= {one.name for one in locked})


def test_what_runs_is_what_is_tested():
    names = ("serve.txt", "run.txt", "dev.txt")
    serve, run, dev = ({one.name: one.version for one in read(name)} for name in names)
    assert serve.items() < run.items() < dev.items()


@each_lock
def test_lock_names_no_address_and_no_path(name):
    text = (LOCKS / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(#\s*)?-(?!-hash=|c locks/|r locks/)", text, re.MULTILINE)


@pytest.mark.parametrize("folder", NODE)
def test_lock_of_node_agrees_with_its_package_json_and_has_no_address(folder):
    text = (ROOT / folder / "package-lock.json").read_text(encoding="utf-8")
    lock = json.loads(text)["packages"]
    package = json.loads((ROOT / folder / "package.json").read_text(encoding="utf-8"))
    assert lock.pop("")["dependencies"] == package["dependencies"]
    assert {f"node_modules/{name}" for name in package["dependencies"]} <= set(lock)
    for one in lock.values():
        assert one["integrity"].startswith("sha512-")
        assert "resolved" not in one
    assert "omit-lockfile-registry-resolved=true" in (ROOT / folder / ".npmrc").read_text().splitlines()


def test_everything_that_make_installs_comes_from_a_lock():
    """Except for the two targets that look for what a lock would hide."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = re.split(r"^(?=\S[^=\n]*:(?!=))", makefile, flags=re.MULTILINE)
    locked = [rule for rule in rules if not re.match("test-newest:|test-lowest:", rule)]
    installs = re.findall(r"^.*(?:pip install|npm (?:install|ci)|apt).*$", "".join(locked), re.MULTILINE)
    assert len(installs) == 3
    for line in installs:
        assert re.search("--require-hashes|--no-deps --no-build-isolation|npm ci", line), line


# -- the tools around them -------------------------------------------------------------------------

LOCK = """\
# made by a tool
one==1.2 ; sys_platform == 'win32' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via two
Two_More==3 \\
    --hash=sha256:cc
    # via
    #   -r locks/pip.in
    #   one
"""


def test_lock_is_read():
    one, two = parse(LOCK)
    assert (one.name, one.version, one.hashes, one.via) == (
        "one",
        "1.2",
        ("sha256:aa", "sha256:bb"),
        ("two",),
    )
    assert str(one.requirement.marker) == 'sys_platform == "win32"'
    assert (two.name, two.version, two.via) == ("two-more", "3", ("-r locks/pip.in", "one"))


def test_what_changed_is_a_line_for_each_package():
    after = versions("locks/x.txt", LOCK)
    assert differences({"one": "1.1", "gone": "1"}, after) == [
        "gone 1 -> (none)", "one 1.1 -> 1.2", "two-more (none) -> 3",
    ]  # fmt: skip
    nested = {"": {}, "node_modules/a": {"version": "1"}, "node_modules/b/node_modules/a": {"version": "2"}}
    assert versions("package-lock.json", json.dumps({"packages": nested})) == {"a": "1, 2"}


def test_lowest_version_is_the_bound():
    assert lowest(Requirement("click>=8.1.0,<9")) == "click==8.1.0"
    assert len(requirements()) == len([lowest(one) for one in requirements()]) == 8
