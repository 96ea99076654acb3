"""The npm package: what is in it, and that a fresh project can install and use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from brook import __version__
from tests.support.browser import ScriptedServer, chromium_fixture, page_fixture  # noqa: F401
from tests.support.node import ESBUILD, MODULES, NODE, NPM, TSC
from tests.support.processes import ROOT

CLIENT = ROOT / "client"
PROJECT = ROOT / "tests" / "client" / "project"


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-5_000:]
    return done.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory) -> Path:
    """The package, packed in a copy: packing puts the files of `static` beside the adapters for a moment."""
    clone = tmp_path_factory.mktemp("clone")
    for folder in ("client", "static"):
        shutil.copytree(ROOT / folder, clone / folder)
    shutil.copy(ROOT / "LICENSE", clone)
    name = run(*NPM, "pack", "--silent", cwd=clone / "client").strip()
    left = {path.name for path in (clone / "client").iterdir()} - {name}
    assert left == {path.name for path in CLIENT.iterdir()}, "packing leaves something behind"
    return clone / "client" / name


@pytest.fixture(scope="module")
def project(tarball, tmp_path_factory) -> Path:
    """A fresh project with the package, and with the frameworks that the tests' lock has."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    run(*NPM, "install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts", str(tarball), cwd=folder)
    installed = [path.name for path in (folder / "node_modules").iterdir() if path.name[0] != "."]
    assert installed == ["babbling-brook"], "it brings something along"
    for path in MODULES.iterdir():
        if path.name[0] != ".":
            (folder / "node_modules" / path.name).symlink_to(path)
    for path in (*PROJECT.iterdir(), *(ROOT / "tests" / "support").glob("*.mjs")):
        shutil.copy(path, folder)
    return folder


def test_package_holds_the_client_its_types_and_the_adapters(tarball):
    with tarfile.open(tarball) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
    modules = {path.name for path in ROOT.glob("static/brook*.js")} | {
        path.name for path in CLIENT.glob("*.js")
    }
    types = {name.replace(".js", ".d.ts") for name in modules if name != "brook-tabs.js"}
    assert names == modules | types | {"package.json", "README.md", "LICENSE"}


def test_package_has_the_version_of_the_server_and_exports_each_adapter():
    package = json.loads((CLIENT / "package.json").read_text())
    assert package["version"] == __version__
    adapters = {f"./{path.stem}" for path in CLIENT.glob("*.js")}
    assert set(package["exports"]) == {".", "./stream", "./package.json", *adapters}


def test_adapters_are_short():
    for path in CLIENT.glob("*.js"):
        assert len(path.read_text().splitlines()) <= 40, path.name


def test_adapters_work_in_a_fresh_project(project):
    told = run(NODE, "--test", "--test-reporter=spec", "adapters.test.mjs", cwd=project)
    assert "tests 6" in told


@pytest.mark.parametrize("resolution", ["bundler", "node16"])
def test_types_resolve_in_a_fresh_project(project, resolution):
    module = "esnext" if resolution == "bundler" else "node16"
    options = ["--noEmit", "--strict", "--skipLibCheck", "--lib", "es2022,dom,dom.iterable"]
    run(TSC, *options, "--module", module, "--moduleResolution", resolution, "types.ts", cwd=project)


def test_bundler_puts_the_tabs_into_a_part_of_its_own(project):
    (project / "page.js").write_text(
        'import { Brook } from "babbling-brook";\nnew Brook("/").live("creatures").subscribe(console.log);\n'
    )
    run(ESBUILD, "page.js", "--bundle", "--splitting", "--format=esm", "--outdir=built", cwd=project)
    parts = {path.name.partition("-")[0]: path.read_text() for path in (project / "built").iterdir()}
    assert set(parts) == {"page.js", "brook", "chunk"}
    assert "navigator.locks.request" in parts["brook"]
    assert "navigator.locks.request" not in parts["page.js"] + parts["chunk"]


# A page in React, and one without a framework, as `npm create vite` lays them out.
VITE = {
    "index.html": '<!doctype html><div id="root"></div><script type="module" src="/src/main.tsx"></script>',
    "src/main.tsx": """
        import { createElement } from "react";
        import { createRoot } from "react-dom/client";
        import { Brook } from "babbling-brook";
        import { useLive } from "babbling-brook/react";

        const brook = new Brook(new URLSearchParams(location.search).get("brook") ?? "/");

        function Creatures() {
          const { documents, state } = useLive(brook.live<{ _id: string; type: string }>("creatures"));
          if (!documents) return createElement("p", null, state);
          const items = documents.map(({ _id, type }) => createElement("li", { key: _id }, type));
          return createElement("ul", null, ...items);
        }

        createRoot(document.getElementById("root")!).render(createElement(Creatures));
        """,
}


@pytest.fixture
def vite_project(project, tmp_path) -> Path:
    """A fresh Vite project beside the package's own files."""
    for name, text in VITE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    (tmp_path / "node_modules").mkdir()
    for path in (project / "node_modules").iterdir():
        # The package as it was installed, and the frameworks of the tests' lock.
        (tmp_path / "node_modules" / path.name).symlink_to(path.resolve())
    return tmp_path


@pytest.fixture
def built(vite_project) -> Path:
    vite = MODULES / "vite" / "bin" / "vite.js"
    run(NODE, vite, "build", "--outDir", "built", cwd=vite_project)
    return vite_project / "built"


def test_types_resolve_in_a_fresh_vite_project(vite_project):
    options = ["--noEmit", "--strict", "--skipLibCheck", "--lib", "es2022,dom,dom.iterable"]
    options += ["--module", "esnext", "--moduleResolution", "bundler"]
    run(TSC, *options, "src/main.tsx", cwd=vite_project)


def test_vite_puts_the_tabs_into_a_part_of_its_own(built):
    scripts = {path.name.partition("-")[0]: path.read_text() for path in built.glob("assets/*.js")}
    assert set(scripts) == {"index", "brook"}
    assert "navigator.locks.request" in scripts["brook"]
    assert "navigator.locks.request" not in scripts["index"]


def test_page_that_vite_built_is_live(built, sandbox, database, start_server, page):
    database.creatures.insert_one({"_id": "a", "type": "newt"})
    server = start_server("--mongo", sandbox.uri, "--database", database.name)
    with ScriptedServer(built) as site:
        page.open(f"{site.url}?brook={server.url}/")
        items = "[...document.querySelectorAll('li')].map((item) => item.textContent).join()"
        page.wait(f"{items} === 'newt'")
        database.creatures.insert_one({"_id": "b", "type": "otter"})
        page.wait(f"{items} === 'newt,otter'")


def test_package_is_one_that_tools_understand(tarball):
    run(NODE, MODULES / "publint" / "src" / "cli.js", "--strict", tarball, cwd=tarball.parent)
