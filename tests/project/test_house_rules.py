"""Rules of this house that no linter knows: who may name whom, what a file may hold, what it says."""

from __future__ import annotations

import ast
import functools
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clone import MODULES, ROOMS, files, name_of
from tests.support.processes import ROOT

OURS = (*ROOMS, "server")
DRIVER = {"motor", "pymongo", "gridfs"}

# Split a file by noun when it passes 250 lines; the rest is room for a change that is under way.
MAX_LINES_OF_A_FILE = 400
MAX_LINES_OF_A_FUNCTION = 60

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path: Path, *, at_once: bool = False) -> set[str]:
    """The modules that a file imports: anywhere in it, or just by being imported itself."""
    found = set()
    todo: list[ast.AST] = [tree(path)]
    while todo:
        node = todo.pop()
        if at_once and (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or only_for_types(node)):
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    # Importing a module imports the packages it is in.
    return found | {name.rsplit(".", depth)[0] for name in found for depth in range(1, name.count(".") + 1)}


def rooms_of(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


# -- who may name whom -----------------------------------------------------------------------------


@each_module
def test_rooms_name_only_those_below_them(path):
    allowed = {
        "server": {"brook", "handlers", "sources"},
        "handlers": {"brook", "handlers"},
        "sources": {"brook", "sources"},
        "brook": {"brook"},
    }
    room = name_of(path).partition(".")[0]
    assert rooms_of(imports(path)) & set(OURS) <= allowed[room]


@each_module
def test_each_room_uses_only_the_libraries_that_are_its_business(path):
    known = {
        "server": {"click", "tornado"},
        "handlers": {"tornado", "prometheus_client", "cryptography"},
        "sources": DRIVER | {"bson"},
        "brook": {"bson", "orjson", "jwt", "click"},
    }
    room = name_of(path).partition(".")[0]
    foreign = rooms_of(imports(path)) - set(sys.stdlib_module_names) - set(OURS)
    assert foreign <= known[room]
    if "prometheus_client" in foreign:
        assert name_of(path) == "handlers.metrics"
    if "cryptography" in foreign:
        assert name_of(path) == "handlers.validity"
    if "jwt" in foreign:
        assert name_of(path).startswith("brook.access.")
    if "click" in foreign:
        assert name_of(path) == "server" or name_of(path).startswith("brook.commands.")
    if foreign & DRIVER:
        assert re.fullmatch(r"sources\.(mongo(\.\w+)*|sandbox)", name_of(path))


def test_nothing_that_a_demo_needs_knows_of_mongodb():
    """Followed from `server` through everything that is imported at once."""
    by_name = {name_of(path): path for path in MODULES}
    reached: set[str] = set()
    todo = ["server"]
    while todo:
        name = todo.pop()
        if name in reached or name not in by_name:
            continue
        reached.add(name)
        wanted = imports(by_name[name], at_once=True)
        assert not rooms_of(wanted) & (DRIVER | {"bson"}), f"{name} is needed by a demo"
        todo += wanted
    assert {"server", "handlers.stream", "sources.demo", "brook.delivery.subscribers"} <= reached
    assert "sources.mongo.source" not in reached


def test_tests_and_benchmarks_are_used_by_nobody_else():
    for path in MODULES:
        assert not rooms_of(imports(path)) & {"tests", "bench", "pytest"}


# -- what a file may hold --------------------------------------------------------------------------

CHANGEABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)
CHANGEABLE_TYPES = {"list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter",
                    "WeakSet", "WeakKeyDictionary", "WeakValueDictionary", "count", "Queue", "Event",
                    "Lock", "Condition", "ContextVar", "local"}  # fmt: skip


def called(node: ast.expr) -> str:
    """The last name of what is called."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def assignments(body: list[ast.stmt]) -> Iterator[tuple[list[str], ast.expr]]:
    for node in body:
        if isinstance(node, ast.Assign):
            yield [target.id for target in node.targets if isinstance(target, ast.Name)], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield [getattr(node.target, "id", "")], node.value


@each_module
def test_no_state_lives_in_a_module_or_a_class(path):
    """A table written in capitals may be a dict, and nobody may change it."""
    module = tree(path)
    constants: set[str] = set()
    classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    for body in (module.body, *(node.body for node in classes)):
        for names, value in assignments(body):
            assert called(value) not in CHANGEABLE_TYPES, f"{names} can be changed by everybody"
            if isinstance(value, CHANGEABLE):
                assert all(re.fullmatch("_?[A-Z][A-Z0-9_]*|__all__|__slots__", name) for name in names), names
                constants |= set(names)
    for node in ast.walk(module):
        assert not isinstance(node, ast.Global), f"line {node.lineno}: global"
        if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            assert getattr(node.value, "id", "") not in constants, f"line {node.lineno} changes a table"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changes = node.func.attr in {"append", "add", "update", "pop", "clear", "extend", "setdefault"}
            assert not (changes and getattr(node.func.value, "id", "") in constants), f"line {node.lineno}"


@each_module
def test_no_function_remembers_results_for_ever(path):
    for node in ast.walk(tree(path)):
        for decorator in getattr(node, "decorator_list", []):
            text = ast.unparse(decorator)
            assert "cache" not in text or "cached_property" in text, f"line {node.lineno}: {text}"


@each_module
def test_file_is_about_one_thing_and_so_not_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES_OF_A_FILE
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < MAX_LINES_OF_A_FUNCTION, node.name


@each_module
def test_file_begins_with_its_place_and_names_no_unfinished_business(path):
    if path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(tree(path))
    for word in ("TO" + "DO", "FIX" + "ME", "X" + "XX"):
        assert word not in path.read_text(encoding="utf-8")


@each_module
def test_only_logs_configures_logging_and_nobody_prints(path):
    calls = [ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert "print" not in calls
    if path.name != "logs.py":
        assert "logging.basicConfig" not in calls


# -- plain words -----------------------------------------------------------------------------------

# A sentence begins at the start of a text, after a full stop, and after an empty line.
PRONOUN_FIRST = re.compile(
    r"(?:^|[.!?]\s+|\n\s*\n\s*)"
    r"((?:What|Who|Whose|Whom|Those|Whoever|Whatever|Whether|How often|How many)\b[^.\n]*)"
)
FREE_RELATIVE = re.compile(r"\b(?:what|who|whom|whose|those)\b", re.IGNORECASE)

# Tornado, h11, anyio and mercure have 0.4 to 2.6.
MAX_RELATIVES_PER_1000_WORDS = 3


def prose(source: str) -> list[str]:
    """The docstrings of a file, also those of attributes, and its comments: one text for each block."""
    texts = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    last_line = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comment = token.string.lstrip("# ")
            if token.start[0] == last_line + 1:
                texts[-1] += " " + comment
            else:
                texts.append(comment)
            last_line = token.start[0]
    return texts


def pronoun_first(source: str) -> list[str]:
    return [sentence for text in prose(source) for sentence in PRONOUN_FIRST.findall(text.strip())]


def relatives_and_words(source: str) -> tuple[int, int]:
    """Number of free relatives, and of all words. Code in backticks is not prose."""
    text = re.sub(r"`[^`]*`", "", "\n".join(prose(source)))
    return len(FREE_RELATIVE.findall(text)), len(re.findall(r"[A-Za-z']+", text))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""What it holds."""', ["What it holds"]),
        (
            "def f():\n    '''Take one.\n\n    Those that wait go first.\n    '''",
            ["Those that wait go first"],
        ),
        ("x: int\n'''A number. Whether it counts.'''", ["Whether it counts"]),
        ("# A long line\n# ends here. Who knows.", ["Who knows"]),
        ("x = 1  # How many there are", ["How many there are"]),
        ("# It says so.\n\n# Whose it is", ["Whose it is"]),
        ("# It takes what comes, whatever that is\ntext = 'What is here.'", []),
        ("# Whatsoever", []),
    ],
)
def test_sentence_that_begins_with_a_pronoun_is_found(source, found):
    assert pronoun_first(source) == found


def test_relatives_are_counted_in_prose_only():
    source = "# It takes what comes, `who` or not\nwho = 'those'  # one whose name is Who"
    assert relatives_and_words(source) == (3, 11)


@each_module
def test_sentence_begins_with_its_noun(path):
    found = pronoun_first(path.read_text(encoding="utf-8"))
    assert not found


def test_free_relatives_are_rare():
    counts = [relatives_and_words(path.read_text(encoding="utf-8")) for path in MODULES]
    relatives, words = map(sum, zip(*counts, strict=True))
    assert words > 5000
    assert relatives <= MAX_RELATIVES_PER_1000_WORDS * words / 1000


# -- the picture of the house ----------------------------------------------------------------------

ARCHITECTURE = ROOT / "docs" / "architecture.md"


def room_of(name: str) -> str:
    """The room of a module, as docs/architecture.md draws it: `brook/delivery`, `handlers` ..."""
    parts = name.split(".")
    return "/".join(parts[:2]) if parts[0] in ("brook", "sources") else parts[0]


def arrows() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    by_name = {name_of(path): path for path in MODULES}
    found: dict[str, set[str]] = {}
    for name, path in by_name.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    target = inner if inner in by_name else str(node.module)
                    if target in by_name and room_of(target) not in (room_of(name), "brook"):
                        found.setdefault(room_of(name), set()).add(room_of(target))
    return found


def block(kind: str) -> list[str]:
    [text] = re.findall(
        rf"^```text {kind}\n(.*?)^```$", ARCHITECTURE.read_text(encoding="utf-8"), re.M | re.S
    )
    return text.splitlines()


def test_every_import_goes_down_the_floors_of_the_picture():
    floors = {}
    for line in block("floors"):
        number, *rooms = line.split()
        floors |= dict.fromkeys(rooms, int(number))
    drawn = arrows()
    assert set(floors) == {*drawn, *(room for rooms in drawn.values() for room in rooms)}
    for room, rooms in drawn.items():
        assert all(floors[below] < floors[room] for below in rooms), room


def test_imports_are_the_ones_that_the_picture_lists():
    listed: dict[str, set[str]] = {}
    room = ""
    for line in block("imports"):
        names = line.split()
        if not line.startswith(" "):
            room, *names = names
        listed.setdefault(room, set()).update(names)
    assert listed == arrows()


# -- what the project says -------------------------------------------------------------------------

# Put together here, so that this file does not hold what it forbids.
FORBIDDEN = {
    "a path of somebody's machine": re.compile(
        r"(?<![\w.~}$-])/(?:" + "|".join(("ho" + "me", "ro" + "ot", "Us" + "ers", "work")) + r")/\w"
    ),
    "a package registry's host": re.compile(
        "|".join(
            re.escape(host)
            for host in ("py" + "pi.org", "py" + "thonhosted.org", "npm" + "js.org", "npm" + "js.com",
                         "registry." + "yarnpkg", "crates" + ".io", "proxy." + "golang")
        )
    ),
    "a key": re.compile("BEGIN [A-Z ]*PRIVATE " + "KEY"),
}  # fmt: skip


def test_files_speak_of_no_machine_and_no_registry():
    checked = 0
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        checked += 1
        for what, pattern in FORBIDDEN.items():
            match = pattern.search(text)
            assert match is None, f"{path.relative_to(ROOT)} names {what}: {match}"
    assert checked > 50


def test_every_folder_of_tests_is_a_package():
    """Otherwise pytest would import `tests/http` in place of a top-level module of that name."""
    folders = {
        path.parent for path in files() if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")
    }
    assert len(folders) > 5
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_support_code_is_not_in_test_files():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not any(re.search(r"(^|\.)test_", name) for name in imports(path)), path


def test_unexpected_warnings_are_errors():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    warnings = options["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert warnings[0] == "error"
