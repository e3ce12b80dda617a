"""Keeps the values that a validation's batches log or collect, to see whether their plain mean is what is logged."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule, Trainer, module_attributes, moment
from lightning_debug.callbacks._metric_totals import Totals
from lightning_debug.callbacks._taps import Shadow
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.metrics import BatchAverages, UnevenAverage
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size

MOST_BATCHES = 4096
"""Validations with more batches than that are not followed: a last batch moves little in them."""
PARTS = 16
"""Values of so many batches are told of a sum."""


class AverageWatch:
    """Called by a callback's hooks in the validations that are audited.

    Args:
        observe: Receives the evidence.
    """

    def __init__(self, observe: Callable[[Evidence], None]) -> None:
        self._observe = observe
        self._sizes: list[int] = []
        self._values: dict[str, list[Any]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._lengths: dict[str, int] = {}
        self._ends: dict[str, Any] = {}
        self._totals: Totals | None = None
        self._shadows: list[Shadow] = []
        self.active = False

    def begin(self, pl_module: LightningModule, *, uncollated: bool = False) -> None:
        """A validation's first batch begins.

        Args:
            pl_module: Its module.
            uncollated: Whether the loaders hand on items as they are: a bag or a graph that is logged with a
                ``batch_size`` of 1 counts once, however many rows it has.
        """
        self.release()
        self.active = True
        self._sizes, self._values, self._ends = [], {}, {}
        self._totals = Totals(pl_module)
        self._lengths = {
            name: len(value)
            for name, value in vars(pl_module).items()
            if isinstance(value, list) and name not in module_attributes()
        }

        def keep(named: Mapping[Any, Any], size: Any) -> None:
            if not (uncollated and size == 1):
                for name, value in named.items():
                    self._values.setdefault(str(name), []).append(value)

        def log(original: Any, name: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            keep({name: value}, kwargs.get("batch_size"))
            return original(name, value, *args, **kwargs)

        def log_dict(original: Any, dictionary: Any, *args: Any, **kwargs: Any) -> Any:
            keep(dictionary, kwargs.get("batch_size"))
            return original(dictionary, *args, **kwargs)

        self._shadows = [Shadow(pl_module, "log", log), Shadow(pl_module, "log_dict", log_dict)]

    def add(self, batch: Any) -> None:
        """A batch is over."""
        if not self.active:
            return
        try:
            self._sizes.append(batch_size(batch))
        except Uncuttable:
            self.release()
        if len(self._sizes) > MOST_BATCHES:
            self.release()
        if self._totals is not None:
            self._totals.add()

    def begin_end(self, pl_module: LightningModule) -> None:
        """The hooks of the epoch's end are about to run."""
        if not self.active:
            return
        count = len(self._sizes)
        self._remove()
        self._lists = {}
        for name, value in vars(pl_module).items():
            if isinstance(value, list) and name not in module_attributes():
                fresh = value[self._lengths.get(name, 0) :] if len(value) >= count else []
                if len(fresh) == count:
                    self._lists.update(_columns(name, fresh))

        def log(original: Any, name: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            self._ends[str(name)] = value
            return original(name, value, *args, **kwargs)

        def log_dict(original: Any, dictionary: Any, *args: Any, **kwargs: Any) -> Any:
            self._ends.update({str(name): value for name, value in dictionary.items()})
            return original(dictionary, *args, **kwargs)

        self._shadows = [Shadow(pl_module, "log", log), Shadow(pl_module, "log_dict", log_dict)]

    def end(self, trainer: Trainer, logged: Mapping[str, Any]) -> None:
        """The validation is over; ``logged`` are the epoch's values by name."""
        if not self.active or not self._sizes:
            return
        totals = self._totals.columns() if self._totals is not None else {}
        self.release()
        found = {item.key: item for item in reversed(list(self._uneven(logged, totals)))}  # each value once
        self._observe(
            BatchAverages(
                batches=len(self._sizes),
                largest=max(self._sizes),
                smallest=min(self._sizes),
                uneven=tuple(reversed(found.values())),
                at=moment(trainer),
            )
        )

    def _uneven(self, logged: Mapping[str, Any], totals: Mapping[str, list[float]]) -> Iterator[UnevenAverage]:
        ends = {name: number(logged.get(name, value)) for name, value in self._ends.items()}
        columns = {source: [number(item) for item in column] for source, column in self._lists.items()}
        metrics = {str(name): number(logged[name]) for name in self._values if name in logged}  # objects of steps
        for source, values in {**columns, **totals}.items():
            if len(values) == len(self._sizes):
                named = {**metrics, **ends} if source in totals else ends
                yield from filter(None, (self._judged(name, value, values, source) for name, value in named.items()))
        for name, items in self._values.items():
            if len(items) == len(self._sizes) and name in logged:
                found = self._judged(name, number(logged[name]), [number(item) for item in items], "")
                if found is not None:
                    yield found

    def release(self) -> None:
        """Takes every watch off."""
        self._remove()
        self._totals = None
        self.active = False

    def _remove(self) -> None:
        for shadow in reversed(self._shadows):
            shadow.remove()
        self._shadows = []

    def _judged(self, name: str, value: float, values: list[float], source: str) -> UnevenAverage | None:
        if not all(map(math.isfinite, (value, *values))):
            return None
        mean = math.fsum(values) / len(values)
        weighted = math.fsum(size * item for size, item in zip(self._sizes, values, strict=True)) / sum(self._sizes)
        summed = len(values) > 1 and math.isclose(mean * len(values), value, rel_tol=1e-5, abs_tol=1e-7)
        if summed and not math.isclose(value, 0.0, abs_tol=1e-7):
            return UnevenAverage(
                key=name, value=value, weighted=weighted, source=source, summed=True, parts=tuple(values[:PARTS])
            )
        if not math.isclose(mean, value, rel_tol=1e-5, abs_tol=1e-7) or math.isclose(mean, weighted, rel_tol=1e-4):
            return None
        return UnevenAverage(
            key=name, value=value, weighted=weighted, source=source, error=self._error(values, weighted)
        )

    def _error(self, values: list[float], weighted: float) -> float:
        """The standard error of the mean by rows: the spread of the batches tells that of a row."""
        squares = math.fsum(size * (item - weighted) ** 2 for size, item in zip(self._sizes, values, strict=True))
        return math.sqrt(squares / (len(values) - 1) / sum(self._sizes))


def _columns(name: str, rows: list[Any]) -> dict[str, list[Any]]:
    """The scalars of each row: the row itself, or its entries by key or position."""
    if all(_is_scalar(row) for row in rows):
        return {f"self.{name}": rows}
    found: dict[str, list[Any]] = {}
    keys: Iterable[Any] = ()
    if all(isinstance(row, dict) for row in rows):
        keys = rows[0]
    elif all(isinstance(row, tuple) and len(row) == len(rows[0]) for row in rows):
        keys = range(len(rows[0]))
    for key in keys:
        column = [row.get(key) if isinstance(row, dict) else row[key] for row in rows]
        if all(_is_scalar(item) for item in column):
            found[f"self.{name}[…][{key!r}]"] = column
    return found


def _is_scalar(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and value.is_floating_point()
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def number(value: Any) -> float:
    """A logged value as a number; NaN for what is none, such as a metric object. Reads on the host."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.detach().to(torch.float64))
    return float(value) if isinstance(value, numbers.Real) else math.nan
