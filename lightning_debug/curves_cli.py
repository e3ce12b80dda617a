"""``lightning-debug curves RUN_DIR...``: finished runs judged by their logs, event files or metrics.csv."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_debug import registry
from lightning_debug.curves.csv_logs import columns
from lightning_debug.curves.finished import TABLE, Curves, curves_of, runs_in
from lightning_debug.curves.names import role
from lightning_debug.curves.reading import read_curves
from lightning_debug.curves.series import Series
from lightning_debug.evidence import Evidence, Moment, to_plain
from lightning_debug.evidence.curves import CurveReading, EpochValues
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from lightning_debug.finding import Finding
from lightning_debug.judge import judge
from lightning_debug.record import Record
from lightning_debug.reports._curves import Chart, Curve
from lightning_debug.reports.curves_page import RunCurves, page
from lightning_debug.reports.curves_page import table as rows

MOST_POINTS = 400
"""Points of a training curve that are drawn; more are averaged."""
MOST_BEFORE = 64
"""Training losses that are looked at before they end in NaN."""
FEWEST_BROKEN = 3
"""Values in a row to the end of the log: one may stand for a line without a training loss."""
MOST_EPOCHS = 10_000
"""Validations that are counted."""
MOST_TOLD = 20
"""Names told where one is not there."""


class NoLogs(ValueError):
    """A folder is not there, or holds no logs."""


@dataclass
class Run:
    """One run's logs.

    Args:
        folder: Where they are.
        findings: What was found.
        notes: What could not be read, and what was left out.
        reading: What was judged.
        read: The curves.
    """

    folder: Path
    findings: tuple[Finding, ...] = ()
    notes: list[str] = field(default_factory=list)
    reading: CurveReading | None = None
    read: Curves | None = None


def runs(folders: Sequence[str]) -> list[Path]:
    """Every folder, at any depth, that holds logs; a table that is given by its name.

    Raises:
        NoLogs: If a folder is not there, or holds none.
    """
    found: list[Path] = []
    for name in folders:
        top = Path(name)
        if not top.exists():
            raise NoLogs(f"{name} is not there")
        if not top.is_dir() and not any(map(role, columns(top))):
            raise NoLogs(f"{name} is no folder, and no table with steps and losses")
        here = runs_in(top)
        if not here:
            raise NoLogs(f"{name} holds neither event files nor {TABLE} (or another table with steps and losses)")
        found += here
    return list(dict.fromkeys(found))


def diagnose(folder: Path, *, train: str = "", val: str = "", metric: str = "", baseline: float | None = None) -> Run:
    """Reads and judges one run.

    Args:
        folder: Where its logs are.
        train: Name of the training loss; recognised if left out.
        val: Name of the validation loss, likewise.
        metric: Name of the validation metric, likewise.
        baseline: Loss of predicting without the inputs, where known.
    """
    read = curves_of(folder, train=train, val=val, metric=metric)
    run = Run(folder, notes=read.notes)
    missing = [name for name in (train, val, metric) if name and name not in read.present]
    if missing:
        told = ", ".join(sorted(read.present)[:MOST_TOLD]) or "none"
        run.notes = [*run.notes, f"no values named {', '.join(missing)}; there are {told}"]
        return run
    names, validations = read.names, read.validations
    unknown = {what: option for what, name, option in _wanted(names) if not name}
    if unknown and not read.present:
        run.notes.append("the logs hold no values")
    elif unknown:
        told = ", ".join(sorted(read.present)[:MOST_TOLD])
        options = " and ".join(f"{option} NAME" for option in unknown.values())
        run.notes.append(f"no {' and no '.join(unknown)} was recognised among {told}; say which it is: {options}")
    if late := _late(validations.epochs):
        run.notes.append(
            f"validation begins at epoch {late}: if the run was resumed, another log holds what was before"
        )
    count = validations.epochs[-1] + 1 if validations.epochs else 0
    reading = read_curves(read.train, validations, epochs=count, final=True, assumed=True, baseline=baseline)
    rules = [one for one in registry.all_rules() if CurveReading in one.needs or one.code == "LD302"]
    broken = _broken(read.train) or _broken_validation(read)
    if broken:  # what has become NaN does not fall any more
        rules = [one for one in rules if one.code != "LD715"]
    judged = judge(Record([reading, *broken]), rules)
    run.findings = judged.findings
    kept = {skip.code: skip.reason for skip in judged.skips}
    asked = (
        ("LD701", names.train if read.train.length > read.train.nonfinite else ""),
        ("LD707", names.val if reading.validation is not None else ""),
    )
    run.notes += [f"{name} is not judged: {kept[code]}" for code, name in asked if name and code in kept]
    run.reading, run.read = reading, read
    return run


def _late(epochs: Sequence[int]) -> int:
    """The first epoch that was validated, where it comes later than the next one after it; 0 otherwise."""
    return epochs[0] if len(epochs) > 1 and epochs[0] > max(1, epochs[1] - epochs[0]) else 0


def _broken(train: Series) -> list[Evidence]:
    """The training loss before it ends for good in NaN or Inf; a log with such values before that is another matter."""
    if not _ends_broken(train):
        return []
    at = Moment(step=train.broken_since or 0)
    steps, losses = train.steps[-MOST_BEFORE:], train.means[-MOST_BEFORE:]
    return [
        StepWindow(steps=tuple(map(int, steps)), losses={"loss": tuple(map(float, losses))}, at=at),
        NonFiniteStep(loss=train.broken_with, unknown="a log holds values alone", at=at),
    ]


def _broken_validation(read: Curves) -> list[Evidence]:
    """The validation loss, where it ends for good in NaN or Inf and the training loss does not."""
    seen, losses = read.validation, read.train.means
    if not _ends_broken(seen) or not len(losses) or read.train.broken_since is not None:
        return []
    train, at = float(losses[-1]), Moment(epoch=read.broken or 0, step=seen.broken_since or 0)
    window = StepWindow(steps=(at.step,), losses={"loss": (train,)})
    finite = min(MOST_EPOCHS, seen.length - seen.broken_count)
    found = [EpochValues(train_loss=train, val_loss=float(seen.means[0])) for _ in range(finite)]
    bad = min(MOST_EPOCHS, seen.broken_count)
    return [window, *found, *(EpochValues(train_loss=train, val_loss=seen.broken_with, at=at) for _ in range(bad))]


def _ends_broken(series: Series) -> bool:
    ended = series.broken_since is not None and series.nonfinite == series.broken_count
    return ended and series.broken_count >= FEWEST_BROKEN


def _wanted(names: Any) -> list[tuple[str, str, str]]:
    return [("training loss", names.train, "--train"), ("validation loss", names.val, "--val")]


def table(found: Sequence[Run]) -> str:
    """A table over the runs, then what is said of each: alarms first, then what could not be read."""
    lines = [*rows([_shown(run) for run in found]), ""] if len(found) > 1 else []
    for run in found:
        lines.append(f"{run.folder}: {_verdict(run)}")
        for item in run.findings:
            lines.append(f"  {item.severity} {item.code}: {item.message}")
            lines += [f"    fix: {item.fix}"] if item.fix and item.severity >= "warning" else []
        lines += [f"  note: {note}" for note in run.notes]
    return "\n".join(lines)


def as_page(found: Sequence[Run]) -> str:
    """The same as one page of HTML, with a picture of each run."""
    return page([_shown(run, charts=True) for run in found])


def _verdict(run: Run) -> str:
    alarms = [item for item in run.findings if item.severity >= "warning"]
    judged = run.reading is not None and (run.reading.training is not None or run.reading.validation is not None)
    return ", ".join(f"{item.code} {item.name}" for item in alarms) or ("no warning" if judged else "not judged")


def _shown(run: Run, *, charts: bool = False) -> RunCurves:
    reading, read = run.reading, run.read
    name = str(run.folder)
    if reading is None or read is None:
        return RunCurves(name, (_verdict(run), *"-----"), notes=tuple(run.notes))
    val, best = reading.validation, reading.best
    numbers = (
        reading.training.end if reading.training else None,
        val.end if val else None,
        val.metric_end if val and val.metric else None,
    )
    cells = (
        _verdict(run),
        str(reading.epochs),
        *("-" if number is None else f"{number:.4g}" for number in numbers),
        "-" if best is None else str(best.epoch),
    )
    seen = read.validations
    drawn = _charts(read) if charts else ()
    return RunCurves(
        name, cells, drawn, run.findings, tuple(run.notes), dict(zip(seen.epochs, seen.steps, strict=True))
    )


def _charts(read: Curves) -> tuple[Chart, ...]:
    seen, train = read.validations, read.train
    every = max(1, len(train.means) // MOST_POINTS)
    losses = []
    if len(train.means):
        chunks = [slice(at, at + every) for at in range(0, len(train.means), every)]
        steps, counts, means = train.steps, train.counts, train.means
        pooled = [float((counts[part] * means[part]).sum() / counts[part].sum()) for part in chunks]
        losses.append(Curve(read.names.train, tuple(zip(map(int, steps[::every]), pooled, strict=True))))
    if seen.loss_name and seen.steps:
        losses.append(Curve(seen.loss_name, tuple(zip(seen.steps, seen.losses, strict=True))))
    metrics = [Curve(seen.metric_name, tuple(zip(seen.steps, seen.metrics, strict=True)))] if seen.metric_name else []
    return tuple(
        Chart(title, tuple(found)) for title, found in (("loss", losses), (seen.metric_name, metrics)) if found
    )


def as_json(found: Sequence[Run]) -> str:
    """The same as JSON: a list of runs."""
    told = [{"run": str(run.folder), "findings": to_plain(run.findings), "notes": run.notes} for run in found]
    return json.dumps(told, indent=2, allow_nan=False)
