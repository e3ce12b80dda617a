"""The matrix of ways in, as a table, written from a test-run into ``lightning_debug/README.md``.

``pytest -m "slow or not slow" --junitxml=ways.xml tests/...`` and then
``python -m benchmarks.ways_in ways.xml --write lightning_debug/README.md``. Several files may be given, one for each
file of tests; of a test that is in two of them the later one counts. Each row names its tests, so that nothing is said
that did not run; what was left out of the run says so. Without ``--write`` the table is printed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROWS = (
    ("Trainer of either package: fit, validate, test, predict", "test_attach", "every_entry"),
    ("each callback alone, beside a Debugger, in the other package", "test_callbacks_introspection", ""),
    ("`LIGHTNING_DEBUG=1`: on, off, wrong settings, own Debugger, barebones, copies", "test_attach", ""),
    ("`lightning-debug run`", "test_cli_run", ""),
    ("LightningCLI: each callback by flags and file, help, wrong values", "test_lightning_cli", ""),
    ("`DebugCLI`, `add_debug_arguments`: options, own command lines, help", "test_ways_in", "namespace|own|help"),
    ("`DebugCLI` in a program of each package, saved and replayed", "test_ways_in", "replayed"),
    ("programs as other people write them, strict", "test_callbacks_zoo", ""),
    ("bit-identity: workers, optimizers, precision, accumulation, compile, resume", "test_bit_identity", ""),
    ("bit-identity on 2 and 3 ranks: DDP, FSDP2, manual, accumulated", "test_bit_identity_ranks", ""),
    ("ranks: spawned, forked, one that dies, 1024 simulated", "test_rank_monitor test_cli_processes test_ranks", ""),
    ("ranks: a fault of one rank, an error that one meets, one that breaks off", "test_rank_findings", ""),
    ("interrupted in any hook", "test_faults_thrown", "interrupted_in"),
    ("no batches, no steps, no time, sanity check only", "test_faults_thrown", "without_batches"),
    ("a Trainer inside a Trainer, `configure_model`", "test_faults_thrown", "inside"),
    ("full disk, read-only folder, logger that refuses", "test_faults_thrown test_spine_failures", "disk|written"),
    ("SIGTERM, SIGKILL and resume, a worker that dies, many fits", "test_faults_thrown", "signal|worker|many_fits"),
    ("probe, hook and rule of ours that raise", "test_spine_failures", "part|hook|failure"),
)
BEGIN, END = "<!-- ways in: written by python -m benchmarks.ways_in -->", "<!-- end of ways in -->"


def outcomes(path):
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        yield (
            case.get("classname", "").rpartition(".")[2],
            case.get("name", ""),
            ("failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"),
        )


def table(paths):
    latest = {(file, name): kind for path in paths for file, name, kind in outcomes(path)}
    found = [(*test, kind) for test, kind in latest.items()]
    lines = ["| way | tests | outcome |", "|---|---|---|"]
    for title, files, pattern in ROWS:
        own = [kind for file, name, kind in found if file in files.split() and re.search(pattern, name)]
        count = Counter(own)
        told = ", ".join(f"{count[kind]} {kind}" for kind in ("passed", "failed", "skipped") if count[kind])
        named = ", ".join(f"`{file}`" for file in files.split())
        lines.append(f"| {title} | {named} | {told or 'not in this run'} |")
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "pytorch-lightning", "lightning")
    )
    python = ".".join(map(str, sys.version_info[:2]))
    return "\n".join([*lines, "", f"Run with {versions}, Python {python}."])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("junit", nargs="+")
    parser.add_argument("--write", metavar="README")
    options = parser.parse_args()
    text = table(options.junit)
    if not options.write:
        print(text)
        return
    path = Path(options.write)
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
