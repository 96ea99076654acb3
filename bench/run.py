"""The benchmark: `python -m bench.run --help`. Measures the servers in turn, on one MongoDB."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench import build, machine, plot, report
from bench.scenarios import COMPARED, FULL, QUICK
from bench.servers import Server, every_server
from sources.sandbox import Sandbox


def main() -> None:
    options = arguments()
    results = json.loads(options.again.read_text()) if options.again else measure(options)
    print(report.tables(results))
    if options.plot:
        options.plot.write_text(plot.draw(results))
    if options.report:
        options.report.write_text(report.page(results, options.plot))
    if any(one["server"] == "brook" and one["faults"] for one in results["measurements"]):
        raise SystemExit("this project's server had faults, see above")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Take all measurements, and save the results after each."""
    servers = choose(options)
    results: dict[str, Any] = {"quick": options.quick, "machine": machine.describe(), "measurements": []}
    options.json.parent.mkdir(exist_ok=True)
    with Sandbox() as sandbox:
        for name in options.scenarios:
            scenario = (QUICK if options.quick else FULL)[name]
            for run in range(options.runs):
                for server in turn(servers, run):
                    if not concerns(name, server):
                        continue
                    print(f"{name:11}run {run + 1}/{options.runs}  {server.title:15}", end="", flush=True)
                    figures = scenario.measure(server, sandbox.uri)
                    print(report.brief(figures), flush=True)
                    one = {"scenario": name, "server": server.name, "run": run, **figures}
                    results["measurements"].append(one)
                    options.json.write_text(json.dumps(results, indent=1))
    return results


def choose(options: argparse.Namespace) -> list[Server]:
    """Return the chosen servers that can run on this machine."""
    servers = []
    for server in every_server():
        if options.servers and server.name not in options.servers:
            continue
        if not options.servers and not options.peers and server.name not in ("brook", "floor"):
            continue
        if missing := server.missing():
            print(f"without {server.title}: {missing} not installed (python -m bench.install)")
        else:
            servers.append(server)
    return servers


def concerns(scenario: str, server: Server) -> bool:
    """Return True if a scenario applies to a server. The floor keeps only the descriptor of a connection."""
    if server.name == "brook":
        return True
    return scenario in COMPARED and (scenario, server.name) != ("idle", "floor")


def turn(servers: list[Server], run: int) -> list[Server]:
    """Rotate the servers from run to run, so that other load on the machine affects all of them."""
    first = run % len(servers)
    return servers[first:] + servers[:first]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    words = lambda text: text.split(",")  # noqa: E731
    parser.add_argument(
        "--runs", type=int, default=3, help="runs of each measurement; the report shows medians"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that everything works")
    parser.add_argument(
        "--peers", action="store_true", help="compare with all peers, not only with the floor"
    )
    parser.add_argument("--servers", type=words, help="only these servers, such as brook,express,floor")
    parser.add_argument(
        "--scenarios", type=words, default=list(FULL), help="only these scenarios: " + ",".join(FULL)
    )
    parser.add_argument(
        "--json", type=Path, default=build.BUILD / "results.json", help="file for the results"
    )
    parser.add_argument("--again", type=Path, help="measure nothing; report the results in this JSON file")
    parser.add_argument("--report", type=Path, help="write the documentation page to this file")
    parser.add_argument("--plot", type=Path, help="write the plot as SVG to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
