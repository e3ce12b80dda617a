"""The curves of a finished run out of its logs, in bounded memory, whatever their length."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_debug.curves import csv_logs, event_files
from lightning_debug.curves.event_files import Chunk
from lightning_debug.curves.names import Names, recognised, role
from lightning_debug.curves.noise import Array
from lightning_debug.curves.series import Series
from lightning_debug.curves.validation import Validations

EVENTS, TABLE = "*tfevents*", "metrics.csv"
MOST_NAMES = 256
"""Curves followed at once."""
FEWEST = 3
"""Values of a metric that tell whether it moves."""
MOST_TURNS = 20
"""Steps that go back more often within one stretch of a log are out of order, and no restarts."""


@dataclass
class Logged:
    """One name's values.

    Args:
        series: The values.
        last: The last step.
        overlap: Values that a restart went over again.
    """

    series: Series = field(default_factory=Series)
    last: int = -1
    overlap: int = 0

    @property
    def stands_still(self) -> bool:
        """Whether several values are all the same, as those of a reference that is logged beside a metric are."""
        means = self.series.means
        return len(means) >= FEWEST and bool((means == means[0]).all())

    def take(self, steps: NDArray[np.int64], values: Array) -> None:
        """Appends values. Where steps go back, the run was taken up from there: what came later holds."""
        turns = np.flatnonzero(np.diff(steps) < 0) + 1
        if len(turns) > MOST_TURNS:
            order = np.argsort(steps, kind="stable")
            steps, values, turns = steps[order], values[order], turns[:0]
        for part_steps, part in zip(np.split(steps, turns), np.split(values, turns), strict=True):
            first = int(part_steps[0])
            if first < self.last:
                self.overlap += self.series.cut(first)
            self.series.extend(part_steps, part)
            self.last = int(part_steps[-1])


@dataclass
class Epochs:
    """Which epoch a step belongs to: the steps at which the logged epoch changes."""

    starts: list[int] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)

    def take(self, steps: NDArray[np.int64], values: Array) -> None:
        """Appends logged epochs."""
        changes = np.flatnonzero(np.diff(values, prepend=self.numbers[-1] if self.numbers else math.nan) != 0)
        for index in changes:
            step = int(steps[index])
            while self.starts and self.starts[-1] >= step:
                self.starts.pop()
                self.numbers.pop()
            self.starts.append(step)
            self.numbers.append(float(values[index]))

    def at(self, step: int, otherwise: int) -> int:
        """The epoch of a step."""
        index = int(np.searchsorted(self.starts, step, side="right")) - 1
        number = self.numbers[index] if index >= 0 else math.nan
        return int(number) if math.isfinite(number) else otherwise


@dataclass
class Curves:
    """What a run's logs hold.

    Args:
        names: What was recognised.
        present: All names that have values.
        train: Training loss.
        validations: Validation loss and metric.
        notes: What could not be read, and what was left out.
        validation: Validation loss, with what is known of values that are not finite.
        broken: The epoch from which on it is not finite.
    """

    names: Names
    present: frozenset[str]
    train: Series
    validations: Validations
    notes: list[str]
    validation: Series
    broken: int | None = None


def runs_in(top: Path) -> list[Path]:
    """Every folder, at any depth, that holds logs, and every other table of curves; a table that is given itself.

    The folders that ``SummaryWriter.add_scalars`` makes belong to the run around them.
    """
    if top.is_file():
        return [top]
    folders = {path.parent for pattern in (EVENTS, TABLE) for path in top.rglob(pattern)}
    tables = {
        path
        for path in top.rglob("*.csv")
        if path.name != TABLE and path.parent not in folders and any(map(role, csv_logs.columns(path)))
    }
    found = {folder for folder in folders if folder.parent not in folders or not _part(folder)} | tables
    return sorted(found, key=_counted)


def _counted(path: Path) -> list[str | int]:
    """What a path is ordered by, so that ``version_10`` comes after ``version_9``.

    >>> sorted([Path("version_10"), Path("version_9")], key=_counted)[0].name
    'version_9'
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def _part(folder: Path) -> tuple[str, str] | None:
    """The tag and the key of a folder that ``add_scalars(tag, {key: value})`` has made, if it is one."""
    if (folder / TABLE).exists():
        return None
    for path in sorted(folder.glob(EVENTS))[:1]:
        try:
            tags = list(next(event_files.chunks(path, []), {}))
        except Exception:  # a damaged file is told where it is read
            return None
        start = f"{tags[0].replace('/', '_')}_" if len(tags) == 1 else ""
        if start and folder.name.startswith(start) and len(folder.name) > len(start):
            return tags[0], folder.name[len(start) :]
    return None


def curves_of(folder: Path, *, train: str = "", val: str = "", metric: str = "") -> Curves:
    """Reads a folder's logs.

    Args:
        folder: Where event files or ``metrics.csv`` are, or a table of its own.
        train: Name of the training loss; recognised if left out.
        val: Name of the validation loss, likewise.
        metric: Name of the validation metric, likewise.
    """
    notes: list[str] = []
    present: dict[str, None] = {}
    logged: dict[str, Logged] = {}
    epochs, given = Epochs(), {train, val, metric}
    for chunk in _chunks(folder, notes):
        for name, (steps, values) in chunk.items():
            present.setdefault(name)
            if name == "epoch":
                epochs.take(steps, values)
            elif (name in logged or len(logged) < MOST_NAMES) and (name in given or role(name)):
                logged.setdefault(name, Logged()).take(steps, values)
    names = recognised(present, train, val, metric)
    if names.metric != metric and names.metric in logged and logged[names.metric].stands_still:
        moving = [name for name in present if name not in logged or not logged[name].stands_still]
        other = recognised(moving, names.train, names.val)
        names = other if other.metric else names
    used = [name for name in (names.train, names.val, names.metric) if name in logged]
    for name in used:
        notes += _told(name, logged[name])
    validations = _validations(names, logged, epochs)
    training = logged[names.train].series if names.train in logged else Series()
    validation = logged[names.val].series if names.val in logged else Series()
    since = validation.broken_since
    broken = None if since is None else epochs.at(since, validation.length - validation.broken_count)
    return Curves(names, frozenset(present), training, validations, notes, validation, broken)


def _chunks(folder: Path, notes: list[str]) -> Iterator[Chunk]:
    if folder.is_file():
        yield from _guarded(folder, csv_logs.chunks(folder, notes), notes)
        return
    seen: set[str] = set()
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if any(folder.glob(EVENTS)) else []
    for part in inside:
        named = _part(part)
        for path in sorted(part.glob(EVENTS)) if named is not None else ():
            for chunk in _guarded(path, event_files.chunks(path, notes), notes):
                yield {f"{tag}/{named[1]}": values for tag, values in chunk.items()}  # type: ignore[index]
    for path in sorted(folder.glob(EVENTS)):
        for chunk in _guarded(path, event_files.chunks(path, notes), notes):
            seen.update(chunk)
            yield chunk
    table = folder / TABLE
    if table.is_file():  # two loggers may have written the same
        for chunk in _guarded(table, csv_logs.chunks(table, notes), notes):
            yield {name: values for name, values in chunk.items() if name not in seen}


def _guarded(path: Path, values: Iterator[Chunk], notes: list[str]) -> Iterator[Chunk]:
    try:
        yield from values
    except Exception as error:  # the files of other programs may be anything; what came before counts
        notes.append(f"{path.name} is read up to a damage: {type(error).__name__}: {error}")


def _told(name: str, logged: Logged) -> list[str]:
    found, series = [], logged.series
    if logged.overlap:
        found.append(f"{logged.overlap} values of {name} were trained again after a restart; the later ones count")
    if series.nonfinite:
        since = f", all of them from step {series.broken_since} on" if series.broken_since is not None else ""
        found.append(f"{series.nonfinite} values of {name} are NaN or infinite{since}")
    return found


def _validations(names: Names, logged: dict[str, Logged], epochs: Epochs) -> Validations:
    seen = Validations(loss_name=names.val, metric_name=names.metric, mode=names.mode)
    by_name = {
        name: dict(zip(logged[name].series.steps.tolist(), logged[name].series.means.tolist(), strict=True))
        for name in (names.val, names.metric)
        if name in logged
    }
    for order, step in enumerate(sorted({step for values in by_name.values() for step in values})):
        seen.steps.append(int(step))
        seen.epochs.append(epochs.at(int(step), order))
        seen.losses.append(by_name.get(names.val, {}).get(step, math.nan))
        seen.metrics.append(by_name.get(names.metric, {}).get(step, math.nan))
    return seen
