"""``lightning-debug curves RUN_DIR...``: finished runs judged by their logs, event files or metrics.csv."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_debug import registry
from lightning_debug.curves import csv_logs
from lightning_debug.curves.names import recognised
from lightning_debug.curves.reading import read_curves
from lightning_debug.curves.series import Series
from lightning_debug.curves.validation import Validations
from lightning_debug.evidence import to_plain
from lightning_debug.evidence.curves import CurveReading
from lightning_debug.finding import Finding
from lightning_debug.judge import judge
from lightning_debug.record import Record

EVENTS, TABLE = "*tfevents*", "metrics.csv"


class NoLogs(ValueError):
    """A folder is not there, or holds no logs."""


@dataclass
class Run:
    """One run's logs.

    Args:
        folder: Where they are.
        findings: What was found.
        notes: What could not be read, and what was left out.
    """

    folder: Path
    findings: tuple[Finding, ...] = ()
    notes: list[str] = field(default_factory=list)


def runs(folders: Sequence[str]) -> list[Path]:
    """Every folder, at any depth, that holds logs.

    Raises:
        NoLogs: If a folder is not there, or holds none.
    """
    found: list[Path] = []
    for name in folders:
        top = Path(name)
        if not top.is_dir():
            raise NoLogs(f"{name} is no folder")
        here = sorted({path.parent for pattern in (EVENTS, TABLE) for path in top.rglob(pattern)})
        if not here:
            raise NoLogs(f"{name} holds neither event files nor {TABLE}")
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
    run = Run(folder)
    present = {name for name, _, _ in _scalars(run)}
    missing = [name for name in (train, val, metric) if name and name not in present]
    names = recognised(present, train, val, metric)
    if missing:
        run.notes = [f"no values named {', '.join(missing)}; there are {', '.join(sorted(present)) or 'none'}"]
        return run
    losses, validations = Series(), Validations()
    by_step: dict[int, dict[str, float]] = {}
    epochs: dict[int, float] = {}
    validations.loss_name, validations.metric_name, validations.mode = names.val, names.metric, names.mode
    last, restarts = -1, 0
    for name, step, value in _scalars(Run(folder)):
        if name == names.train:
            if step <= last:
                restarts += 1
                continue  # a part that a restart trained again; what was logged first stays
            last = step
            losses.extend([step], [value])
        elif name in (names.val, names.metric):
            by_step.setdefault(step, {})[name] = value
        elif name == "epoch":
            epochs[step] = value
    for order, step in enumerate(sorted(by_step)):
        epoch = epochs.get(step, math.nan)
        validations.steps.append(step)
        validations.epochs.append(int(epoch) if math.isfinite(epoch) else order)
        validations.losses.append(by_step[step].get(names.val, math.nan))
        validations.metrics.append(by_step[step].get(names.metric, math.nan))
    if restarts:
        run.notes.append(f"{restarts} values of {names.train} overlap earlier steps (a restart) and are left out")
    if losses.nonfinite:
        run.notes.append(f"{losses.nonfinite} values of {names.train} are NaN or infinite")
    run.notes += [f"no {what} was recognised" for what, name in _wanted(names) if not name]
    count = validations.epochs[-1] + 1 if validations.epochs else 0
    reading = read_curves(losses, validations, epochs=count, final=True, assumed=True, baseline=baseline)
    rules = [one for one in registry.all_rules() if CurveReading in one.needs]
    run.findings = judge(Record([reading]), rules).findings
    return run


def _wanted(names: Any) -> list[tuple[str, str]]:
    return [("training loss", names.train), ("validation loss", names.val)]


def _scalars(run: Run) -> Iterator[tuple[str, int, float]]:
    for path in sorted(run.folder.glob(EVENTS)):
        yield from _guarded(run, path, _events(path))
    if (run.folder / TABLE).is_file():
        yield from _guarded(run, run.folder / TABLE, csv_logs.scalars(run.folder / TABLE))


def _guarded(run: Run, path: Path, values: Iterator[tuple[str, int, float]]) -> Iterator[tuple[str, int, float]]:
    try:
        yield from values
    except Exception as error:  # the files of other programs may be cut off anywhere; what came before counts
        run.notes.append(f"{path.name} is read up to a damage: {type(error).__name__}: {error}")


def _events(path: Path) -> Iterator[tuple[str, int, float]]:
    """The scalars of an event file, one event in memory at a time."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    for event in LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            if kind == "simple_value":
                yield value.tag, int(event.step), float(value.simple_value)
            elif kind == "tensor" and not value.tensor.tensor_shape.dim and value.tensor.dtype in (1, 2):
                yield value.tag, int(event.step), float(make_ndarray(value.tensor))


def table(found: Sequence[Run]) -> str:
    """One verdict a run, alarms first, then what could not be read."""
    lines = []
    for run in found:
        alarms = [item for item in run.findings if item.severity >= "warning"]
        lines.append(f"{run.folder}: {', '.join(f'{item.code} {item.name}' for item in alarms) or 'no warning'}")
        lines += [f"  {item.severity} {item.code}: {item.message}" for item in run.findings]
        lines += [f"  note: {note}" for note in run.notes]
    return "\n".join(lines)


def as_json(found: Sequence[Run]) -> str:
    """The same as JSON: a list of runs."""
    rows = [{"run": str(run.folder), "findings": to_plain(run.findings), "notes": run.notes} for run in found]
    return json.dumps(rows, indent=2, allow_nan=False)
