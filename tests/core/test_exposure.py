"""The warning about what is open to whom."""

from __future__ import annotations

import signal

import pytest

from brook.exposure import exposure, is_loopback, unnamed_host
from brook.settings import Settings

PAGES = "every web page"
NETWORK = "everyone who can reach port 3333"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_addresses_are_for_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "no.such.name.invalid"])
def test_other_addresses_are_not(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("options", "readers", "remedies"),
    [
        ({}, [PAGES, "every program on this machine"], ["--cors-origin"]),
        ({"host": "0.0.0.0"}, [NETWORK, PAGES], ["--host localhost", "--cors-origin"]),
        ({"host": "0.0.0.0", "cors_origin": ("",)}, [NETWORK], ["--host localhost"]),
    ],
)
def test_warning_names_readers_what_they_read_and_the_remedies(options, readers, remedies):
    said = exposure(
        Settings(**options, collection=("orders", "*"), database="shop", namespace=("x.y", "z.*"))
    )
    assert said["readable"] == "shop.orders, shop.*, x.y, z.*"
    assert [reader for reader in (PAGES, NETWORK) if reader in said["readers"]] == [
        reader for reader in (PAGES, NETWORK) if reader in readers
    ]
    assert all(reader in said["readers"] for reader in readers)
    assert said["remedy"].count("--") == len(remedies)
    assert all(remedy in said["remedy"] for remedy in remedies)


@pytest.mark.parametrize("origins", [("",), ("https://app.example.org",)])
def test_server_that_only_programs_of_this_machine_can_read_needs_no_warning(origins):
    assert exposure(Settings(cors_origin=origins)) is None


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("0.0.0.0", "localhost and addresses,"),
        ("brook.invalid", "localhost and addresses and brook.invalid,"),
    ],
)
def test_guarded_server_on_the_network_without_a_name_is_told_the_option(host, names):
    warning = unnamed_host(Settings(host=host))
    assert f"answers only to {names}" in warning
    assert "--allowed-host" in warning


@pytest.mark.parametrize(
    "options", [{}, {"host": "127.0.0.1"}, {"host": "0.0.0.0", "allowed_host": ("brook.example.org",)}]
)
def test_guarded_server_that_has_a_name_or_is_on_loopback_needs_no_option(options):
    assert unnamed_host(Settings(**options)) is None


def warnings_of(server) -> list[str]:
    assert server.stop(signal.SIGTERM) == 0
    return [line for line in server.log if "no access rules" in line]


def test_server_says_it_once_however_many_processes_it_has(start_server, sandbox):
    server = start_server("--mongo", sandbox.uri, "--processes", "2", "--database", "shop")
    [warning] = warnings_of(server)
    assert " WARNING " in warning
    assert "can read all of shop.creatures; --cors-origin" in warning


def test_demo_has_nothing_to_warn_of(start_server):
    assert warnings_of(start_server("--demo")) == []
