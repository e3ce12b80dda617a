"""Labels by class and rows by batch, counted over an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_debug.evidence.data import DeliveredSamples, LabelCounts
from lightning_debug.probes.batch_fields import _items
from lightning_debug.probes.batch_roles import Field, last_key

MOST_CLASSES = 1000
WAITING = 64
"""Batches of labels that wait to be counted."""


class ClassCounts:
    """Counts labels of one class a sample; negative ones are left out.

    Args:
        one_hot: Whether a row of several numbers marks one class. Other rows of several count for nothing.

    >>> counts = ClassCounts()
    >>> counts.add(torch.tensor([0, 2, 2, -100]))
    >>> counts.evidence("train", 0, "batch[1]", complete=True).counts
    (1, 2)
    """

    def __init__(self, *, one_hot: bool = False) -> None:
        self._one_hot, self._of_several = one_hot, False
        self._counts: Counter[int] = Counter()
        self._usable = True
        self._waiting: list[npt.NDArray[Any]] = []

    def add(self, labels: Tensor) -> None:
        """Adds a batch. Batches are counted many at once."""
        if labels.ndim == 2 and labels.shape[1] > 1:
            if not self._one_hot:
                self._of_several = True
                return
            labels = labels.argmax(1)
        if not self._usable or labels.numel() != (labels.shape[0] if labels.ndim else 1):
            self._usable = False
            return
        plain = labels.float() if labels.is_floating_point() and labels.itemsize < 4 else labels
        self._waiting.append(plain.numpy().reshape(-1).copy())  # a clone takes several times as long
        if len(self._waiting) >= WAITING:
            self._count()

    def _count(self) -> None:
        if self._waiting:
            waiting = torch.from_numpy(np.concatenate(self._waiting))
            values, counts = torch.unique(waiting.long(), return_counts=True)
            self._waiting.clear()
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                if value >= 0:
                    self._counts[value] += count
            self._usable = len(self._counts) <= MOST_CLASSES

    def evidence(self, stage: str, loader: int, field: str, *, complete: bool) -> LabelCounts:
        """What was counted."""
        self._count()
        usable = self._usable and not self._of_several
        known = sorted(self._counts.items()) if usable else []
        return LabelCounts(
            stage=stage,
            loader=loader,
            field=field,
            classes=tuple(value for value, _ in known),
            counts=tuple(count for _, count in known),
            complete=complete and usable,
            more=not self._usable,
        )


class RowCounts:
    """Compares the rows of each batch with the number of samples that were asked for.

    Args:
        batch_size: Samples asked for in a full batch; ``None`` where not known.
        samples: Samples asked for in an epoch.
        drop_last: Whether a last batch that is not full is left out.
    """

    def __init__(self, batch_size: int | None, samples: int | None, *, drop_last: bool = False) -> None:
        self._batch_size, self._samples, self._drop_last = batch_size, samples, drop_last
        self.delivered = self._asked = self._batches = self.short = self._mismatched = 0
        self._rows = self._rows_asked = self._label_rows = self._input_rows = self._labelled = 0
        self._field = self._label = ""
        self._values = 0
        self._merged = True  # so many samples make one, in each short batch
        self._known = batch_size is not None and samples is not None

    def add(self, batch: Any, fields: Sequence[Field], size: int) -> None:
        """Adds a batch."""
        index, self._batches = self._batches, self._batches + 1
        self.delivered += size
        asked = 0
        if self._batch_size is not None and self._samples is not None:
            asked = min(self._batch_size, self._samples - index * self._batch_size)
        if asked < 2 or not fields or not size:
            self._known = False
            return
        self._asked += asked
        rows = next((item for item in fields if item.role in ("input", "tokens")), fields[0])
        if rows.size < asked and not _holds_length(batch, asked):
            self.short += 1
            if self.short == 1:
                self._rows, self._rows_asked, self._field = rows.size, asked, rows.path
                self._values = rows.tensor.numel()
            self._merged &= asked % max(1, rows.size) == 0
            self._labelled += any(_is_label(item) and len(item.tensor) == rows.size for item in fields)
        self._compare(fields, asked)

    def _compare(self, fields: Sequence[Field], asked: int) -> None:
        """Labels for fewer samples than inputs."""
        if len(fields) != 2 or not 2 <= fields[0].tensor.ndim <= 5 or fields[0].tensor.shape[0] != asked:
            return
        label = fields[1]
        if not 1 <= label.tensor.ndim <= 2 or label.tensor.shape[0] >= asked or asked in label.tensor.shape:
            return
        if _is_named(label):
            self._mismatched += 1
            if self._mismatched == 1:
                self._label, self._label_rows, self._input_rows = label.path, label.tensor.shape[0], asked

    def evidence(
        self, stage: str, loader: int, dataset: int | None, collate: str, *, keeps: bool = True
    ) -> DeliveredSamples:
        """What was counted."""
        return DeliveredSamples(
            stage=stage,
            loader=loader,
            batches=self._batches,
            delivered=self.delivered,
            asked=self._asked if self._known else None,
            short=self.short,
            rows=self._rows,
            rows_asked=self._rows_asked,
            field=self._field,
            labelled=0 < self.short == self._labelled and not self._merged,
            label=self._label,
            label_rows=self._label_rows,
            input_rows=self._input_rows,
            mismatched=self._mismatched,
            dataset=dataset,
            collate=collate,
            left_out=self._left_out(),
            keeps=keeps,
            values=self._values,
        )

    def _left_out(self) -> int:
        """Samples that fill no batch, where the whole epoch was seen."""
        if not (self._drop_last and self._batch_size and self._samples):
            return 0
        whole, rest = divmod(self._samples, self._batch_size)
        return rest if self._batches == whole else 0


def _is_named(field: Field) -> bool:
    """Whether a field's name says that it holds labels."""
    return last_key(field.path).lower() in ("1", "y", "label", "labels", "target", "targets")


def _is_label(field: Field) -> bool:
    """Whether a field holds one label a sample."""
    return _is_named(field) and field.tensor.ndim == 1


def _holds_length(value: Any, length: int, depth: int = 3) -> bool:
    """Whether anything in a batch has that many items, or one more, as the offsets of packed samples do."""
    if isinstance(value, Tensor):
        return length in value.shape or length + 1 in value.shape
    if isinstance(value, int) and not isinstance(value, bool):
        return value == length
    if value is None or isinstance(value, (str, bytes, float)) or not depth:
        return False
    if isinstance(value, (list, tuple)) and len(value) == length:
        return True
    return any(_holds_length(item, length, depth - 1) for _, item in _items(value))
