"""Runs suites of conformance that others wrote on nodegate and its peers: run.py [--write PAGE] [SUITE…].

Prints a table, and each failure of nodegate that `explained.tsv` does not explain. Then it exits with 1.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import report
import servers
from daemon import Daemon
from suites import SUITES

TOP = Path(__file__).resolve().parents[2]
FOLDER = TOP / "target/conformance"
BUILT = TOP / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"


class Bench:
    """What a suite gets: tools and their sources, the lab, the daemon, and a folder for its logs."""

    def __init__(self, lab, daemon):
        self.lab, self.daemon = lab, daemon
        self.tools, self.sources, self.folder = FOLDER, FOLDER / "sources", FOLDER / "logs"
        self.environment = {**os.environ, "NO_COLOR": "1"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="rewrites the tables of this page")
    parser.add_argument("--nodegate", default=BUILT / "nodegate", type=Path)
    parser.add_argument("--standin", default=BUILT / "standin", type=Path)
    parser.add_argument("--proxies", default=",".join(servers.PROXIES), help="a list with commas")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    found = parser.parse_args()
    if unknown := set(found.suites) - set(SUITES):
        parser.error(f"no such suite: {' '.join(sorted(unknown))}; there are {' '.join(SUITES)}")
    return found


def run_suites(names, proxies, bench, kept):
    for name in names:
        for proxy in proxies:
            started = time.monotonic()
            cases = SUITES[name].run(bench, proxy)
            if cases is None:
                print(f"{name}: not obtained, skipped", flush=True)
                break
            if not cases:
                raise SystemExit(f"{name}: no case was run on {proxy.name}")
            failed = {case: failure for case, failure in cases.items() if failure}
            kept.setdefault(name, {})[proxy.name] = {"version": proxy.version, "count": len(cases), "failed": failed}
            seconds = time.monotonic() - started
            print(f"{name}: {proxy.name} passes {len(cases) - len(failed)} of {len(cases)} ({seconds:.0f} s)", flush=True)


def main():
    options = arguments()
    results = FOLDER / "results.json"
    kept = json.loads(results.read_text()) if results.exists() else {}
    names = options.suites or list(SUITES)
    (FOLDER / "logs").mkdir(parents=True, exist_ok=True)
    lab = servers.prepare_lab(FOLDER / "lab", options.nodegate.resolve(), options.standin.resolve(), 0)
    daemon = Daemon(lab.root / servers.SCRIPTS)
    lab.daemon = daemon.port
    proxies = []
    # So that `finally` ends the proxies.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for name in options.proxies.split(","):
            proxies.append(servers.start(lab, name))
        run_suites(names, proxies, Bench(lab, daemon), kept)
    finally:
        for process in (process for proxy in proxies for process in proxy.processes):
            process.stop()
        results.write_text(json.dumps(kept, indent=1))
    explained = report.Explained(Path(__file__).with_name("explained.tsv"))
    print("\n" + report.table(kept, explained))
    if options.write:
        report.write(options.write, kept, explained)
    return report.complain(kept, explained, names)


if __name__ == "__main__":
    sys.exit(main())
