"""docs/scaling.md: the table of sizes follows from the figures above it."""

from __future__ import annotations

import re

from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")

CLIENTS_OF_A_PROCESS = 20_000


def figure(pattern: str) -> float:
    [number] = re.findall(pattern, PAGE)
    return float(number.replace(",", ""))


def test_sizes_are_the_arithmetic_that_the_page_states():
    send = figure(r"one event to 10,000 clients \| \d+ ms: ([\d.]+) µs each") / 1e6
    process = figure(r"a process without clients \| (\d+) MB") * 1e6 + 1.25 * 64 * 2**20
    client = (
        figure(r"a client in the process \| ([\d.]+) kB") + figure(r"a connection \| ([\d.]+) kB")
    ) * 1e3
    rows = re.findall(
        r"^\| ([\d,]+) \| (\d+) \| ([\d.]+) (%|cores)[^|]* \| ([\d.]+) GB \| ([\d.]+) ([MG])bit/s \|$",
        PAGE, re.M,
    )  # fmt: skip
    assert len(rows) == 5
    for clients_text, processes_text, processor, unit, memory, network, scale in rows:
        clients, processes = int(clients_text.replace(",", "")), int(processes_text)
        assert processes == max(1, clients // CLIENTS_OF_A_PROCESS)
        cores = float(processor) / (100 if unit == "%" else 1)
        for said, exact in (
            (cores, clients * send),
            (float(memory), (processes * process + clients * client) / 1e9),
            (float(network) * {"M": 1e6, "G": 1e9}[scale], clients * (231 + 66) * 8),
        ):
            assert abs(said - exact) <= 0.11 * exact, (clients, said, exact)


def test_plan_of_a_million_clients_has_its_sums_right():
    """Each `a / b = c` and `a x b = c` of the page."""
    number = r"([\d,.]+)(?: [A-Za-zµ]+)?"
    sums = re.findall(
        rf"{number} ([x/]) {number} = ([\d,.]+) ?(µs|ms|s|%|GB|MB/s)?\b", " ".join(PAGE.split())
    )
    assert len(sums) >= 4
    for left, operator, right, result, unit in sums:
        a, b, said = (float(text.rstrip(",.").replace(",", "")) for text in (left, right, result))
        exact = a * b if operator == "x" else a / b
        near = [exact / 10**power for power in (0, 3, 4, 6)]
        assert any(abs(said - one) <= 0.06 * one for one in near), (left, operator, right, result, unit)
