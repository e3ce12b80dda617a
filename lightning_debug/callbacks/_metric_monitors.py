"""What checkpoints are chosen by, training is stopped by and rates are lowered by, and which of its values are best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from lightning_debug.callbacks._lightning import Trainer, callbacks_of, metric_directions, moment
from lightning_debug.curves.names import better, plain
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.selection import MonitoredValue
from lightning_debug.probes.deferred import Deferred

Mode = Literal["min", "max"]

MOST = 16
"""Monitors that are followed."""


@dataclasses.dataclass(frozen=True)
class Monitor:
    """One use of a logged value.

    Args:
        name: The value's name.
        mode: Which of its values the user takes for better.
        user: Class of the callback or schedule that decides by it.
    """

    name: str
    mode: Mode
    user: str


def monitors_in(trainer: Trainer) -> list[Monitor]:
    """All of a run, in the order of its callbacks, schedules last."""
    found = []
    for item in callbacks_of(trainer):
        kinds = {kind.__name__ for kind in type(item).__mro__}
        if kinds & {"ModelCheckpoint", "EarlyStopping"} and getattr(item, "save_top_k", None) != 0:
            found.append((item.monitor, item.mode, type(item).__name__))
    plateaus = [item for item in getattr(trainer, "lr_scheduler_configs", []) if item.reduce_on_plateau]
    found += [(item.monitor, getattr(item.scheduler, "mode", None), type(item.scheduler).__name__) for item in plateaus]
    usable = [Monitor(*one) for one in found if isinstance(one[0], str) and one[1] in ("min", "max")]
    return list(dict.fromkeys(usable))[:MOST]


class MonitorWatch:
    """Follows the values that something decides by: their first and best ones, not all of them.

    Args:
        observe: Where evidence goes.
    """

    def __init__(self, observe: Callable[[Evidence], None]) -> None:
        self._observe = observe
        self._monitors: list[Monitor] = []
        self._seen: dict[str, MonitoredValue] = {}
        self._told: set[Monitor] = set()
        self._validated: set[str] = set()
        self._reads: Deferred[tuple[int, tuple[str, ...]]] = Deferred()

    def begin(self, trainer: Trainer) -> None:
        """Training begins: callbacks and schedules are known."""
        self._monitors = monitors_in(trainer)

    def validated(self, trainer: Trainer) -> None:
        """A validation has ended."""
        if self._monitors:
            self._take(trainer, {item.name for item in self._monitors}, validation=True)

    def end_of_epoch(self, trainer: Trainer) -> None:
        """An epoch of training has ended: values that no validation brings are taken here."""
        names = {item.name for item in self._monitors} - self._validated
        if names and trainer.world_size == 1:  # what one rank asks for alone would wait for the others
            self._take(trainer, names, validation=False)

    def _take(self, trainer: Trainer, names: set[str], *, validation: bool) -> None:
        metrics = trainer.callback_metrics
        values = {name: metrics[name] for name in sorted(names) if isinstance(metrics.get(name), Tensor)}
        values = {name: value for name, value in values.items() if value.numel() == 1 and not value.is_complex()}
        if validation:
            self._validated |= set(values)
        if values:
            told = metric_directions(trainer)
            for name in values:
                if name not in self._seen:
                    self._seen[name] = _of(name, told)
            tensors = [value.detach().reshape(()) for value in values.values()]
            self._reads.put((trainer.current_epoch, tuple(values)), tensors)
        self.tell(trainer, final=False)

    def tell(self, trainer: Trainer, *, final: bool) -> None:
        """Files what has arrived, and tells of a value that is taken the wrong way round."""
        for (epoch, names), values in self._reads.wait() if final else self._reads.arrived():
            for name, value in zip(names, values, strict=True):
                self._seen[name] = _with(self._seen[name], value, epoch)
        for item in self._monitors:
            seen = self._seen.get(item.name)
            if seen is None or (not final and (item in self._told or not seen.is_reversed(item.mode))):
                continue
            self._told.add(item)
            self._observe(dataclasses.replace(seen, mode=item.mode, user=item.user, at=moment(trainer)))


def _of(name: str, told: dict[str, tuple[bool, str]]) -> MonitoredValue:
    """Which values are better, and who says so: the metric object, or the name where they do not differ."""
    by_name, known = better(name), told.get(name) or told.get(plain(name))
    if known is None:
        return MonitoredValue(name=name, better=by_name or "", known_by="its name" if by_name else "")
    by_metric = "max" if known[0] else "min"
    if by_name not in (None, by_metric):
        return MonitoredValue(name=name)
    return MonitoredValue(name=name, better=by_metric, known_by=f"torchmetrics' {known[1]}")


def _with(seen: MonitoredValue, value: float, epoch: int) -> MonitoredValue:
    if not math.isfinite(value):
        return seen
    count = seen.count + 1
    if not seen.count:
        return dataclasses.replace(seen, count=count, lowest=value, highest=value, lowest_at=epoch, highest_at=epoch)
    changed: dict[str, Any] = {}
    if value < seen.lowest:
        changed |= {"lowest": value, "lowest_at": epoch}
    if value > seen.highest:
        changed |= {"highest": value, "highest_at": epoch}
    return dataclasses.replace(seen, count=count, **changed)
