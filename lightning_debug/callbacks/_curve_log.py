"""The curves of the run in progress: values gathered without waiting for a device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from lightning_debug.callbacks._lightning import Trainer, logged_names
from lightning_debug.curves.names import Mode, Names, beside, better, by_stage, monitored, plain
from lightning_debug.curves.series import Series
from lightning_debug.curves.validation import Validations
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_shelf import BatchShelf
from lightning_debug.probes.batch_slicing import Uncuttable
from lightning_debug.probes.deferred import Deferred

AT_ONCE = 32
"""So many losses are read together."""

MOST_NAMES = 64
MOST_EPOCHS = 4096
KEPT_BATCHES, KEPT_SAMPLES, KEPT_BYTES = 64, 768, 2**26
"""Batches are kept until there are so many of them, at least eight of them with so many samples, or so many bytes."""

FEWEST_BATCHES = 8

SURE = 3
"""A name whose value was the loss of the last step at so many validations is the loss's."""

Tag = tuple[str, int, int, tuple[str, ...]]
"""What was asked for: ``"train"`` or ``"val"``, step, epoch, names."""


def monitors_of(callbacks: Iterable[Any]) -> list[tuple[str, Mode]]:
    """What checkpoints are chosen by and training is stopped by: names with the better side, checkpoints first.

    A mode that the name contradicts is the mistake that LD805 tells: the name holds.
    """
    found: list[tuple[bool, str, Mode]] = []
    for item in callbacks:
        kinds = {kind.__name__ for kind in type(item).__mro__}
        name, mode = getattr(item, "monitor", None), getattr(item, "mode", None)
        if kinds & {"ModelCheckpoint", "EarlyStopping"} and isinstance(name, str) and mode in ("min", "max"):
            found.append(("ModelCheckpoint" not in kinds, name, better(name) or mode))
    return [(name, mode) for _, name, mode in sorted(found, key=lambda one: one[0])]


class CurveLog:
    """Losses of training steps and values logged by validations, as they arrive.

    Args:
        delay: Hold values back for so many reads, for tests (see :class:`Deferred`).
        monitors: What the user's callbacks monitor (see :func:`monitors_of`).
    """

    def __init__(self, delay: int = 0, monitors: Sequence[tuple[str, Mode]] = ()) -> None:
        self._monitors = monitors
        self.function = ""
        """What training minimises, where that is one loss function (see :func:`recognised`)."""
        self.train = Series()
        self.validations = Validations()
        self.values: list[dict[str, float]] = []
        self._batches, self._validation = BatchShelf(), BatchShelf()
        self.rates: list[float] = []
        self.largest = 0
        self.partial: set[int] = set()
        self._samples = 0
        self._reads: Deferred[Tag] = Deferred(delay)
        self._losses: list[Tensor] = []
        self._first = 0
        self.is_full = False
        """Whether there is no room for more batches."""
        self._bytes = 0
        self._latest = math.nan
        self._returned: set[str] | None = None
        self._moved: set[str] = set()
        self._trained: set[str] = set()
        self._evaluated: frozenset[str] = frozenset()

    def loss(self, value: Tensor, step: int, *, last: bool = False) -> None:
        """Takes the loss of one training step; the last batch of an epoch may hold fewer samples."""
        if last and len(self.partial) < MOST_EPOCHS:
            self.partial.add(step)
        if not self._losses:
            self._first = step
        self._losses.append(value)
        if len(self._losses) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Asks for the losses held back."""
        if self._losses:
            self._reads.put(("train", self._first, 0, ()), self._losses)
            self._losses = []

    def validated(
        self, metrics: Mapping[str, Any], step: int, epoch: int, evaluated: frozenset[str] | None = None
    ) -> None:
        """Takes what stands logged at the end of a validation, of which it has logged some."""
        self._evaluated = evaluated or frozenset()
        named = {name: value for name, value in metrics.items() if isinstance(value, Tensor) and value.numel() == 1}
        chosen = {name: value.detach() for name, value in list(named.items())[:MOST_NAMES]}
        if chosen:
            self.flush()  # the last loss is compared with what was logged of it
            self._reads.put(("val", step, epoch, tuple(chosen)), list(chosen.values()))

    def end_epoch(self, trainer: Trainer) -> None:
        """Takes the learning rate, and the names that training has logged."""
        groups = [group for optimizer in trainer.optimizers for group in getattr(optimizer, "param_groups", [])]
        rate = groups[0].get("lr") if groups else None
        if isinstance(rate, (int, float)):
            self.rates.append(float(rate))
        self._trained |= logged_names(trainer)
        self.flush()

    def arrive(self, factor: float, *, wait: bool = False) -> None:
        """Files what has arrived.

        Args:
            factor: What a step's loss has to be multiplied by to be the user's.
            wait: Whether to wait for all that was asked for.
        """
        for (kind, step, epoch, names), values in self._reads.wait() if wait else self._reads.arrived():
            if kind == "train":
                self.train.extend(range(step, step + len(values)), [factor * value for value in values])
                self._latest = factor * values[-1]
            else:
                self.values.append(dict(zip(names, values, strict=True)))
                self._file(step, epoch)

    def _file(self, step: int, epoch: int) -> None:
        same = {name for name, value in self.values[-1].items() if math.isclose(value, self._latest, rel_tol=1e-5)}
        self._returned = same if self._returned is None else self._returned & same
        first = self.values[0]
        self._moved |= {name for name, value in self.values[-1].items() if value != first.get(name)}
        names = self.names
        seen, latest = self.validations, self.values[-1]
        if names.val != seen.loss_name or names.metric != seen.metric_name:  # a name came that fits better
            seen.loss_name, seen.metric_name, seen.mode = names.val, names.metric, names.mode
            seen.losses = [item.get(names.val, math.nan) for item in self.values[:-1]]
            seen.metrics = [item.get(names.metric, math.nan) for item in self.values[:-1]]
        seen.steps.append(step)
        seen.epochs.append(epoch)
        seen.losses.append(latest.get(names.val, math.nan))
        seen.metrics.append(latest.get(names.metric, math.nan))

    @property
    def names(self) -> Names:
        """The names recognised among those of the last validation."""
        if not self.values:
            return Names()
        latest = self.values[-1]
        found = monitored(latest, self._monitors, function=self.function)
        chosen = any(name == found.metric for name, _ in self._monitors)
        if len(self.values) >= SURE and found.metric and found.metric not in self._moved and not chosen:
            moving = [name for name in latest if name in self._moved or name == found.val]
            other = monitored(moving, self._monitors, function=self.function)
            found = other if other.metric else found  # what never moves is a reference that is logged beside it
        returned = min(self._returned or (), default="") if len(self.values) >= SURE else ""
        found = beside(found, latest, returned)
        alone = self._evaluated - self._trained
        return by_stage(found, [name for name in latest if plain(name) in alone], function=self.function)

    @property
    def has_batches(self) -> bool:
        """Whether a batch was kept."""
        return len(self._batches) > 0

    def batches(self, most: int | None = None) -> list[Any]:
        """The batches kept, where training had them."""
        return self._batches.first(most)

    def keep(self, batch: Any) -> None:
        """Keeps a batch; not to be asked once it :attr:`is_full`."""
        fields = [field for _, field in batch_fields(batch)]
        samples = max((len(field) for field in fields if field.dim()), default=0)
        self.largest = max(self.largest, samples)
        self._samples += samples
        self._bytes += sum(field.numel() * field.element_size() for field in fields)
        if self._bytes > KEPT_BYTES:
            self.is_full = True
            return
        try:
            self._batches.put(batch)
        except Uncuttable:
            self.is_full = True
            return
        enough = self._samples >= KEPT_SAMPLES and len(self._batches) >= FEWEST_BATCHES
        self.is_full = enough or len(self._batches) >= KEPT_BATCHES

    def keep_validation(self, batch: Any) -> None:
        """Keeps the first batch of the first validation."""
        if not len(self._validation):
            with contextlib.suppress(Uncuttable):
                self._validation.put(batch)

    @property
    def validation_batch(self) -> Any:
        """That batch; ``None`` if there is none."""
        return self._validation.get(0) if len(self._validation) else None
