"""How many planted faults are found, whether they are named first, and how often a healthy program is accused.

``python benchmarks/detection.py`` trains, each in a process of its own and under every callback, as a user would:

- the programs of every page (``Broken`` and ``Repaired``; those on two ranks are run by the tests instead);
- the programs of the folder ``detection``: ``# expect: LD201`` in the first line says what is planted where ``FAULT``
  is true, and ``--repaired`` makes it the twin without it; ``# expect: none`` marks programs that tempt a naive rule.

It prints every miss and every false alarm, then a row for each family of rules (``--rules``: for each rule). *Named
first* is what leads the report, before all other warnings and errors. ``--readme README.md`` writes the table there.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import re
import runpy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning.pytorch  # noqa: F401  once, for all children
import numpy as np
import pytorch_lightning  # noqa: F401  once, for all children
import sklearn.datasets  # noqa: F401  once, for all children
import torch
import torchmetrics  # noqa: F401  once, for all children
from detection_child import in_child

import lightning_debug.debugger  # noqa: F401
from lightning_debug.registry import all_rules

FOLDER = Path(__file__).with_suffix("")
BEGIN = "<!-- detection: written by python benchmarks/detection.py --readme README.md -->"
END = "<!-- end of detection -->"
ELSEWHERE = ("LD001", "LD002", "LD901", "LD902", "LD903", "LD904")
"""Rules whose programs need two processes, or a bug of this tool."""
FAMILIES = {
    "LD1": "errors that raise",
    "LD2": "loss and outputs",
    "LD3": "numbers",
    "LD4": "modes, parameters, architecture",
    "LD5": "data",
    "LD6": "optimisation",
    "LD7": "learning curves",
    "LD8": "metrics",
    "none": "healthy programs that tempt a rule",
}
PREAMBLE = """import numpy, pytorch_lightning as pl, torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
import functools, lightning_debug
from lightning_debug import *
Trainer = functools.partial(
    pl.Trainer, **{"max_epochs": 2, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"})
"""


@dataclass(frozen=True)
class Case:
    """A program, and what must be said of it: a code, or nothing (``"none"``).

    A page's program may have a deeper cause (dead units, where constant outputs are shown): there the first headline
    may also be one that explains the code. ``severe`` is false for rules that only inform.
    """

    name: str
    path: str
    planted: str
    faulty: bool
    severe: bool = True

    @property
    def expected(self) -> str:
        return self.planted if self.faulty else "none"


@dataclass(frozen=True)
class Outcome:
    """What was said of one run. ``headlines`` and ``alarms`` are of warnings and errors only, the worst first."""

    name: str
    planted: str
    faulty: bool
    seed: int
    found: bool
    first: bool
    headlines: tuple[str, ...]
    alarms: tuple[str, ...]
    step: int | None
    seconds: float
    status: str


def pages(folder: Path) -> Iterator[Case]:
    """The programs of all pages, written where they can be run."""
    for one in all_rules():
        if one.code in ELSEWHERE:
            continue
        for section in ("Broken", "Repaired"):
            path = folder / f"{one.code}_{section.lower()}.py"
            path.write_text(PREAMBLE + one.page[section], encoding="utf-8")
            severe = one.severity >= "warning"
            yield Case(f"page {one.code} {section}", str(path), one.code, section == "Broken", severe)


def programs() -> Iterator[Case]:
    """The programs of the folder, with their twins."""
    for path in sorted(FOLDER.glob("*.py")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        match = re.fullmatch(r"# expect: (LD\d{3}|none)", first)
        if match is None:
            raise ValueError(f"{path} must begin with '# expect: LDnnn' or '# expect: none'")
        planted = match.group(1)
        if planted != "none":
            yield Case(path.stem, str(path), planted, True)
        yield Case(path.stem if planted == "none" else f"{path.stem} (twin)", str(path), planted, False)


def seed_everything(seed: int) -> None:
    """Seeds all that programs draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  programs draw from it
    torch.manual_seed(seed)


def train(case: Case, seed: int, folder: str) -> None:
    """Runs a program in this process, which nothing else will use."""
    os.chdir(folder)
    os.environ.update(LIGHTNING_DEBUG="1", LIGHTNING_DEBUG_HTML="0", LIGHTNING_DEBUG_REPORT_DIR=folder)
    os.environ.update(LIGHTNING_DEBUG_TENSORBOARD="0", HF_HUB_OFFLINE="1")
    seed_everything(seed)
    sys.argv = [case.path] if case.faulty else [case.path, "--repaired"]
    runpy.run_path(case.path, run_name="__main__")


def run(case: Case, seed: int, keep: str = "") -> Outcome:
    """Trains a program in a child process and reads the report that it leaves."""
    with contextlib.ExitStack() as stack:
        if keep:
            folder = str(Path(keep).absolute() / re.sub(r"\W+", "_", f"{case.name} {seed}"))
            os.makedirs(folder, exist_ok=True)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        report = Path(folder) / "report.json"
        report.unlink(missing_ok=True)
        begin = time.monotonic()
        code = in_child(lambda: train(case, seed, folder), folder)
        seconds = time.monotonic() - begin
        body = json.loads(report.read_text()) if report.exists() else {"report": {"findings": [], "status": "none"}}
    return judged(case, seed, body["report"], seconds, code)


def judged(case: Case, seed: int, report: dict, seconds: float, code: int) -> Outcome:
    """Compares a report with what was planted."""
    findings = report["findings"]
    bad = [item for item in findings if item["severity"] != "info"]
    headlines = tuple(item["code"] for item in bad if item["explained_by"] is None)
    wanted = next((item for item in findings if item["code"] == case.planted), None)
    causes = {case.planted, *([wanted["explained_by"]] if wanted and case.name.startswith("page") else [])}
    first = headlines[0] in causes if headlines else not case.severe
    return Outcome(
        name=case.name,
        planted=case.planted,
        faulty=case.faulty,
        seed=seed,
        found=case.faulty and wanted is not None,
        first=case.faulty and wanted is not None and first,
        headlines=headlines,
        alarms=tuple(f"{item['code']} {item['subject']}: {item['message']}" for item in bad),
        step=wanted["at"]["step"] if wanted else None,
        seconds=round(seconds, 1),
        status=f"{report['status']}; exit {code}",
    )


def told(outcome: Outcome) -> str | None:
    """A line for what went wrong in a run, or ``None``."""
    if outcome.faulty and not outcome.found:
        word = "MISSED"
    elif outcome.faulty and not outcome.first:
        word = "not first"
    elif not outcome.faulty and outcome.alarms:
        word = "FALSE ALARM"
    elif outcome.status.startswith("none"):
        word = "NOT RUN"
    else:
        return None
    lines = [f"{word:<12} {outcome.name} (seed {outcome.seed}): planted {outcome.planted}, {outcome.status}"]
    return "\n".join(lines + [f"    {alarm[:300]}" for alarm in outcome.alarms[:4]])


def share(count: int, total: int) -> str:
    return f"{count} of {total} ({count / total:.0%})" if total else "-"


def table(outcomes: Iterable[Outcome], *, by_rule: bool = False) -> str:
    """The table of the README: a row for each family of rules, or for each rule, and their sum."""
    rows: dict[str, list[Outcome]] = collections.defaultdict(list)
    for outcome in outcomes:
        rows[outcome.planted if by_rule or outcome.planted == "none" else outcome.planted[:3]].append(outcome)
    lines = [
        "| planted | rules | found | named first | median step when seen | alarms on healthy runs |",
        "|---|---|---|---|---|---|",
    ]
    titles = {code: code for code in sorted(rows)} if by_rule else {}
    titles |= {name: title if name == "none" else f"{name} {title}" for name, title in FAMILIES.items() if name in rows}
    titles["all"] = "**all**"
    for family, title in titles.items():
        some = rows[family] if family != "all" else [item for group in rows.values() for item in group]
        faulty = [item for item in some if item.faulty]
        healthy = [item for item in some if not item.faulty]
        steps = [item.step for item in faulty if item.found and item.step is not None]
        cells = (
            title,
            str(len({item.planted for item in faulty}) or "-"),
            share(sum(item.found for item in faulty), len(faulty)),
            share(sum(item.first for item in faulty), len(faulty)),
            f"{statistics.median(steps):.0f}" if steps else "-",
            share(sum(bool(item.alarms) for item in healthy), len(healthy)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_between(path: Path, begin: str, end: str, body: str) -> None:
    """Writes a table between two markers of a file."""
    text = path.read_text(encoding="utf-8")
    pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
    if not re.search(pattern, text, flags=re.DOTALL):
        raise SystemExit(f"{path} must hold the markers {begin} and {end}")
    path.write_text(re.sub(pattern, lambda _: f"{begin}\n{body}\n{end}", text, flags=re.DOTALL), encoding="utf-8")


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="Programs whose name or code matches this regular expression.")
    parser.add_argument("--seeds", type=int, default=1, help="Runs of each program.")
    parser.add_argument("--first-seed", type=int, default=0, help="The first seed.")
    parser.add_argument("--no-pages", action="store_true", help="Leave out the programs of the pages.")
    parser.add_argument("--keep", default="", help="Folder for logs and reports; without it they are removed.")
    parser.add_argument("--json", default="", help="File for all outcomes; what it holds already is not run again.")
    parser.add_argument("--rules", action="store_true", help="A row for each rule.")
    parser.add_argument("--readme", default="", help="File that holds the two markers, to write the table to.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    done: list[Outcome] = []
    if options.json and Path(options.json).exists():
        done = [Outcome(**item) for item in json.loads(Path(options.json).read_text())]
        done = [item for item in done if not item.status.startswith("none")]
    known = {(item.name, item.seed) for item in done}
    with tempfile.TemporaryDirectory() as folder:
        cases = [*([] if options.no_pages else pages(Path(folder))), *programs()]
        for case in sorted(cases, key=lambda item: (not item.faulty, item.planted != "none")):
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                if not re.search(options.only, f"{case.name} {case.planted}") or (case.name, seed) in known:
                    continue
                outcome = run(case, seed, options.keep)
                done.append(outcome)
                if line := told(outcome):
                    print(line, flush=True)
                if options.json:
                    Path(options.json).write_text(json.dumps([asdict(item) for item in done], indent=1))
    print(table(done, by_rule=options.rules))
    print(f"mean {statistics.fmean(item.seconds for item in done):.1f} s a run" if done else "no program matches")
    if options.readme:
        write_between(Path(options.readme), BEGIN, END, table(done))


if __name__ == "__main__":
    main()
