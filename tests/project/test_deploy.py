"""The files in deploy/: their commands run, their options exist, their numbers fit together."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

import server
from brook.settings import ENVIRONMENT_PREFIX, Settings
from tests.support.ports import free_port
from tests.support.processes import ROOT

DEPLOY = ROOT / "deploy"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("BROOK_", "PYTHON"))}


def settings_of(
    arguments: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The settings that the server would read. Raises if an option or a value is none of its own."""
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    options = {option for parameter in server.main.params for option in [parameter.envvar] if option}
    assert {name for name in environment if name.startswith(ENVIRONMENT_PREFIX)} <= options
    values = server.main.make_context("babbling-brook", arguments).params
    names = Settings.__dataclass_fields__
    return Settings(**{name: value for name, value in values.items() if name in names})


# -- Dockerfile ------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]  # type: ignore[misc]


def of_kind(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


@pytest.fixture(scope="session")
def image(tmp_path_factory) -> Path:
    """The folder that the image has at /opt/brook: made by the commands of the Dockerfile."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("opt") / "brook"
    for rest in of_kind("COPY"):
        *names, target = shlex.split(rest)
        if names[0].startswith("--from"):
            assert names == ["--from=build", "/opt/brook"]
            assert target == "/opt/brook"
            continue
        for name in names:
            place = source / target / (name.rpartition("/")[2] if target.endswith("/") else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, place)
    environment = ENVIRONMENT | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in of_kind("RUN"):
        subprocess.run(
            ["/bin/sh", "-c", command.replace("/opt/brook", str(made))],
            cwd=source, env=environment, check=True, timeout=170,
        )  # fmt: skip
    return made


def test_image_serves_and_its_health_check_notices_when_it_does_not(image, tmp_path):
    port = str(free_port())
    declared = dict(pair.split("=", 1) for rest in of_kind("ENV") for pair in shlex.split(rest))
    environment = ENVIRONMENT | {
        name: value.replace("/opt/brook", str(image)) for name, value in declared.items()
    }
    environment |= {"PATH": environment["PATH"].replace("$PATH", os.environ["PATH"]), "BROOK_PORT": port}
    [check] = of_kind("HEALTHCHECK")
    check = json.loads(check[check.index("[") :])
    [entry] = map(json.loads, of_kind("ENTRYPOINT"))

    def healthy() -> bool:
        return not subprocess.run(
            check, env=environment, capture_output=True, timeout=20, check=False
        ).returncode

    assert not healthy()
    with subprocess.Popen(
        [*entry, "--demo"], env=environment, cwd=tmp_path, stderr=subprocess.PIPE
    ) as running:
        try:
            assert b"listening at http://0.0.0.0:" in running.stderr.readline()
            assert healthy()
            running.send_signal(getattr(signal, of_kind("STOPSIGNAL")[0]))
            assert running.wait(20) == 0
        finally:
            running.kill()
    assert not healthy()
    assert not list(tmp_path.iterdir()), "its files may be read-only"


def test_image_has_no_root_and_no_database():
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", of_kind("USER")[0])
    assert all(re.fullmatch(r"python:3\.\d+-slim( AS build)?", rest) for rest in of_kind("FROM"))
    assert "fiftyone" not in (ROOT / "locks" / "serve.txt").read_text(encoding="utf-8")
    names = [name for name, _ in instructions()]
    assert names.index("USER") > len(names) - 1 - names[::-1].index("FROM"), "in the last stage"


def test_files_that_the_image_needs_are_sent_to_docker():
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {name for rest in of_kind("COPY") for name in shlex.split(rest)[:-1] if name[0] not in "-/"}
    assert copied == sent
    assert not any(fnmatch(name, rule) for name in copied for rule in rules[1:] if rule[0] != "!")


# -- systemd ---------------------------------------------------------------------------------------

UNIT = DEPLOY / "babbling-brook.service"


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_unit_starts_the_server_and_waits_for_its_drain(monkeypatch):
    program, *arguments = shlex.split(unit()["ExecStart"][0])
    assert program.endswith("/bin/babbling-brook")
    settings = settings_of(arguments, {}, monkeypatch)
    assert int(unit()["TimeoutStopSec"][0]) > settings.drain_delay_seconds + settings.drain_seconds + 5
    assert int(unit()["LimitNOFILE"][0]) >= 65536


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not everywhere")
def test_unit_is_one_that_systemd_knows(tmp_path):
    program = tmp_path / "babbling-brook"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("/opt/babbling-brook/bin/babbling-brook", str(program))
    copy.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert UNIT.name not in done.stderr, done.stderr


# -- compose ---------------------------------------------------------------------------------------


def test_compose_file_starts_three_nodes_two_instances_and_nginx(monkeypatch):
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    services: dict[str, Any] = compose["services"]
    assert set(services) == {"mongo1", "mongo2", "mongo3", "initiate", "brook1", "brook2", "nginx"}
    for name in ("brook1", "brook2"):
        service = services[name]
        settings = settings_of(service["command"], service["environment"], monkeypatch)
        assert int(service["stop_grace_period"][:-1]) > settings.drain_delay_seconds + settings.drain_seconds
        uri = service["environment"]["BROOK_MONGO"]
        assert all(node in uri for node in services if node.startswith("mongo"))
        folder = (DEPLOY / "compose" / service["build"]["context"]).resolve()
        assert (folder, (folder / service["build"]["dockerfile"]).exists()) == (ROOT, True)
    for service in services.values():
        depends = service.get("depends_on", {})
        assert set(depends) <= set(services)
        for path in service.get("volumes", []):
            assert (DEPLOY / "compose" / path.partition(":")[0]).exists()


def test_nginx_of_the_compose_file_is_the_documented_one():
    def rules(text: str, location: str) -> set[str]:
        body = re.search(rf"location {re.escape(location)} \{{\n(.*?)\n    \}}", text, re.S)[1]
        return {line.strip() for line in body.splitlines() if line.strip() and "#" not in line}

    documented = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    ours = (DEPLOY / "compose" / "nginx.conf").read_text(encoding="utf-8")
    for location in ("/", "= /metrics", "/stream", "@away"):
        assert rules(ours, location) <= rules(documented, location)
    assert re.findall(r"server (\w+):3333 max_fails=0;", ours) == ["brook1", "brook2"]


# -- Kubernetes ------------------------------------------------------------------------------------


@pytest.fixture
def manifest() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def test_manifest_fits_together(manifest, monkeypatch):
    assert set(manifest) == {"Deployment", "Service", "PodDisruptionBudget"}
    deployment = manifest["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        deployment["selector"]["matchLabels"],
        manifest["Service"]["spec"]["selector"],
        manifest["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    settings = settings_of([], environment_of(container), monkeypatch)
    drain = settings.drain_delay_seconds + settings.drain_seconds
    assert pod["terminationGracePeriodSeconds"] > drain + 5
    ready = container["readinessProbe"]
    assert settings.drain_delay_seconds > ready["periodSeconds"] * ready.get("failureThreshold", 3)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.metrics_port}
    assert manifest["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    annotations = deployment["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(settings.metrics_port)
    assert (
        f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == of_kind("USER")[0]
    )


@pytest.fixture
def deployed(manifest, image) -> Iterator[tuple[int, int]]:
    """The server with the environment of the manifest, but for its ports: these are returned."""
    [container] = manifest["Deployment"]["spec"]["template"]["spec"]["containers"]
    port, metrics_port = free_port(), free_port()
    environment = ENVIRONMENT | environment_of(container)
    environment |= {"BROOK_PORT": str(port), "BROOK_METRICS_PORT": str(metrics_port)}
    command = [str(image / "bin" / "babbling-brook"), "--demo"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert json.loads(running.stderr.readline())["message"].startswith("listening")
            yield port, metrics_port
        finally:
            running.kill()


def test_probes_and_metrics_of_the_manifest_answer(manifest, deployed):
    [container] = manifest["Deployment"]["spec"]["template"]["spec"]["containers"]
    ports = dict(zip(("http", "metrics"), deployed, strict=True))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        with urllib.request.urlopen(
            f"http://127.0.0.1:{ports[get['port']]}{get['path']}", timeout=20
        ) as answer:
            assert answer.status == 200
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{ports['metrics']}/metrics", timeout=20) as answer:
        assert b"brook_ready" in answer.read()
    assert time.monotonic() - began < 5
