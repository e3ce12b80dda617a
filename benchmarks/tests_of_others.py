"""Runs other packages' own test files without and with ``LIGHTNING_DEBUG=1``; lists the tests that fail only with us.

``python -m benchmarks.tests_of_others [package ...] --sources FOLDER --json outcomes.json`` in an environment that has
the packages and pytest. The tests are in the packages' source archives: where one is not in ``--sources`` yet, ``pip
download`` fetches it. Each file runs in a process of its own, first without us, then with; a test that does worse with
us runs again both ways, so that one that fails now and then is told apart. What is in the JSON file is not run again.

Printed per file: tests passed, failed and skipped without us, those that do worse with us, how many runs were watched,
and which findings there were. ``--readme`` prints the table that stands in this folder's README.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

MODELS = "tests/test_models"
FILES = {
    "dvclive==3.49.1": ("tests/frameworks/test_lightning.py",),
    "gluonts==0.17.0": (
        "test/torch/model/test_torch_incremental_training.py", "test/torch/model/test_multivariate_estimators.py",
        "test/torch/model/test_estimators.py",
    ),
    "pytorch-forecasting==1.8.0": (
        f"{MODELS}/test_nbeats.py", f"{MODELS}/test_tide.py", f"{MODELS}/test_nhits.py", f"{MODELS}/test_mlp.py",
        f"{MODELS}/test_deepar.py", f"{MODELS}/test_rnn_model.py", f"{MODELS}/test_x_lstm.py",
        f"{MODELS}/test_temporal_fusion_transformer.py",
    ),
    "scvi-tools==1.4.2": (
        "tests/train/test_trainingplans.py", "tests/train/test_callbacks.py", "tests/model/test_linear_scvi.py",
        "tests/external/scar/test_scar.py", "tests/model/test_amortizedlda.py", "tests/model/test_peakvi.py",
        "tests/external/gimvi/test_gimvi.py", "tests/external/contrastivevi/test_contrastivevi.py",
    ),
    "pina-mathlab==0.3.2.post2610": ("tests/test_trainer.py",),
}  # fmt: skip
"""Files whose tests train, or make Trainers, on a CPU and without a network."""

RANKED = ("passed", "skipped", "failed")


def source(requirement, folder):
    """The unpacked source archive of a package."""
    name, _, version = requirement.partition("==")
    unpacked = folder / f"{name.replace('-', '_')}-{version}"
    if not unpacked.is_dir():
        archive = folder / f"{unpacked.name}.tar.gz"
        if not archive.is_file():
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
            subprocess.run([*command, requirement], check=True)
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    return unpacked


def run(folder, tests, attached, seconds):
    """Outcome by test, and what the runs found."""
    with tempfile.TemporaryDirectory() as scratch:
        junit, tally = Path(scratch) / "outcome.xml", Path(scratch) / "tally"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg"}
        for name in [name for name in environment if name.startswith("LIGHTNING_DEBUG")]:
            del environment[name]
        if attached:
            environment |= {"LIGHTNING_DEBUG": "1", "LIGHTNING_DEBUG_TALLY": str(tally)}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=",
            f"--junitxml={junit}",
            *tests,
        ]
        try:
            told = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True,
                                  timeout=seconds, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            return {}, [], f"not done in {seconds} s"
        if not junit.is_file():
            return {}, [], (told.stdout + told.stderr)[-2000:]
        lines = tally.read_text(encoding="utf-8").splitlines() if tally.is_file() else []
        return outcomes(junit), lines, told.stdout[-20000:]


def outcomes(junit):
    """Outcome by test."""
    found = {}
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[f"{case.get('classname', '')}::{case.get('name', '')}"] = kind
    return found


def worse(alone, ours):
    """The tests that do worse with us, or do not end there."""
    return [name for name, kind in alone.items() if RANKED.index(ours.get(name, "failed")) > RANKED.index(kind)]


def found_in(lines):
    """How many sessions wrote to a tally, and how often each code was a headline."""
    last = {}
    for line in lines:
        told = json.loads(line)
        last[told["session"]] = told
    count = collections.Counter()
    for told in last.values():
        count.update({f"{code} ({severity})" for severity, code, _ in told["headlines"]})
    return len(last), dict(count)


def compare(folder, path, seconds):
    """One file, without us and with us."""
    alone, _, said = run(folder, [path], False, seconds)
    if not alone:
        return {"note": f"does not run without us: {said[-300:]}"}
    ours, lines, said = run(folder, [path], True, seconds * 4)
    changed = worse(alone, ours)
    steady = []
    if changed:
        again, _, _ = run(folder, [path], False, seconds)
        ours_again, _, said = run(folder, [path], True, seconds * 4)
        steady = [name for name in changed if name in worse(again, ours_again)]
    watched, codes = found_in(lines)
    return {
        "without": collections.Counter(alone.values()), "with": collections.Counter(ours.values()), "worse": steady,
        "unsteady": [name for name in changed if name not in steady], "watched": watched, "codes": codes,
        "said": said if steady else "",
    }  # fmt: skip


def table(outcome):
    """Markdown, one row a package."""
    lines = ["| package | files | passed, failed, skipped without us | worse with us | runs watched | headlines |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for requirement, files in outcome.items():
        done = [item for item in files.values() if "without" in item]
        count = [sum(item["without"].get(kind, 0) for item in done) for kind in ("passed", "failed", "skipped")]
        codes = collections.Counter()
        for item in done:
            codes.update(item["codes"])
        told = ", ".join(f"{times} of {code}" for code, times in codes.most_common())
        lines.append(
            f"| {requirement.replace('==', ' ')} | {len(done)} | {count[0]}, {count[1]}, {count[2]} | "
            f"{sum(len(item['worse']) for item in done)} | {sum(item['watched'] for item in done)} | {told or 'none'} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", help="Names; all by default.")
    parser.add_argument("--sources", type=Path, default=Path(tempfile.gettempdir()) / "sources")
    parser.add_argument("--json", type=Path, help="Keeps what was done.")
    parser.add_argument("--only", default="", help="Part of a file's path.")
    parser.add_argument("--seconds", type=int, default=240, help="What a file may take without us; four times with us.")
    parser.add_argument("--readme", action="store_true", help="Prints the table of what is in the JSON file.")
    options = parser.parse_args()
    kept = options.json and options.json.is_file()
    done = json.loads(options.json.read_text(encoding="utf-8")) if kept else {}
    if options.readme:
        print(table(done))
        return
    for requirement, files in FILES.items():
        if options.packages and requirement.partition("==")[0] not in options.packages:
            continue
        folder = source(requirement, options.sources)
        for path in files:
            if options.only not in path or path in done.get(requirement, {}):
                continue
            outcome = done.setdefault(requirement, {})[path] = compare(folder, path, options.seconds)
            print(f"{requirement} {path}: {json.dumps(outcome)}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(done, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
