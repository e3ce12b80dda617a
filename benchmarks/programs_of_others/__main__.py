"""Trains programs of other people without and with ``LIGHTNING_DEBUG=1``, and says what changed and what was found.

Run ``python -m benchmarks.programs_of_others [name ...]`` in an environment that has the packages, or some of them: a
program whose packages are not installed is skipped with a note. Each is trained in a process without us and in one with
us; where the two differ, once more without us, which says whether it repeats itself. Printed per program: whether
weights, forecasts and random numbers are the same bit for bit, the seconds of CPU without and with us, files left beside
the report, and every finding of every fit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
OURS = ("lightning_debug", "report.html", "report.json")


def programs(names):
    for path in sorted(FOLDER.glob("*.py")):
        needs = re.search(r'^NEEDS = "(.*)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
        if needs and (not names or path.stem in names):
            yield path, needs[1].split()


def run(path, folder, attached, more=()):
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER), "CUDA_VISIBLE_DEVICES": ""}
    for name in [name for name in environment if name.startswith("LIGHTNING_DEBUG")]:
        del environment[name]
    if attached:
        environment["LIGHTNING_DEBUG"] = "1"
        inner = [sys.executable, str(FOLDER / "attached.py"), str(folder / "each"), str(path)]
    else:
        inner = [sys.executable, str(path)]
    began = _cpu()
    work = folder / "work"
    work.mkdir()
    with (folder / "out.txt").open("w", encoding="utf-8") as out:
        code = subprocess.run(
            [*inner, *more], cwd=work, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False
        ).returncode
    seconds = _cpu() - began
    text = (folder / "out.txt").read_text(encoding="utf-8")
    result = [line for line in text.splitlines() if line.startswith("RESULT ")]
    files = {str(item.relative_to(work)) for item in work.rglob("*") if item.is_file()}
    return {"code": code, "seconds": seconds, "result": result[-1:], "files": files, "text": text}


def _cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def difference(first, second):
    if not (first["result"] and second["result"]):
        return "no result"
    one, other = (json.loads(item["result"][0][7:]) for item in (first, second))
    return ", ".join(name for name in {**one, **other} if one.get(name) != other.get(name))


def judged(path, folder, more):
    alone = run(path, folder / "alone", attached=False, more=more)
    if alone["code"] or not alone["result"]:
        print(
            f"{path.stem}: fails without us (exit code {alone['code']}): {alone['text'].strip().splitlines()[-1:]}",
            flush=True,
        )
        return
    ours = run(path, folder / "ours", attached=True, more=more)
    changed = difference(alone, ours)
    verdict = "same result, bit for bit" if not changed else f"DIFFERS in {changed}"
    if changed:
        unsteady = difference(alone, run(path, folder / "again", attached=False, more=more))
        verdict += f" (between two runs without us: {unsteady or 'nothing'})"
    if ours["code"]:
        verdict = f"CRASHED with exit code {ours['code']}"
    left = sorted(name for name in ours["files"] - alone["files"] if not any(part in OURS for part in Path(name).parts))
    own = re.compile(r"events\.out\.tfevents|\.ckpt$")  # named by the time
    left = [name for name in left if not own.search(name)]
    print(f"{path.stem}: {verdict}; {alone['seconds']:.0f} CPU s without, {ours['seconds']:.0f} s with us"
          + (f"; left behind: {left}" if left else ""), flush=True)  # fmt: skip
    for document in sorted((folder / "ours" / "each").glob("*.json"), key=lambda item: int(item.stem.split("-")[-1])):
        told = json.loads(document.read_text(encoding="utf-8"))
        context = told["context"] or {}
        print(f"  fit of {context.get('model') or '?'}: {told['status']}")
        for finding in told["findings"]:
            under = f" (under {finding['explained_by']})" if finding["explained_by"] else ""
            print(
                f"    {finding['severity']} {finding['code']} {finding['name']}{under}: {finding['message']} [{finding['subject']}]"
            )
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="Programs; all by default.")
    parser.add_argument("--keep", help="Folder for outputs and reports.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        for path, needs in programs(options.names):
            missing = [name for name in needs if importlib.util.find_spec(name) is None]
            if missing:
                print(f"{path.stem}: skipped, because {', '.join(missing)} is not installed", flush=True)
                continue
            judged(path, folder / f"{path.stem}-{os.getpid()}", ())


if __name__ == "__main__":
    main()
