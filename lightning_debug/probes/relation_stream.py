"""What is remembered of the samples that a loader delivers: keys and labels of all, values of the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.batch_shelf import BatchShelf
from lightning_debug.probes.relation_fingerprints import MOST_VALUES, Keys, compact, fingerprints, spread
from lightning_debug.probes.relation_pooling import PooledSamples
from lightning_debug.probes.relation_several import SeveralLabels, SeveralStream, several_of

Array = npt.NDArray[Any]
LabelKind = Literal["classes", "amounts", ""]

MOST_SAMPLES = 2**22
"""Samples of an epoch whose keys are kept: 16 bytes each."""
KEPT_ROWS, KEPT_VALUES = 1024, MOST_VALUES
"""The first samples are kept with up to so many values each: 4 MiB."""

WAITING, LARGE = 64, 2**17
"""So many batches wait to be turned into keys, if they have fewer bytes than this."""

_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Samples:
    """Samples in the order in which they came.

    Args:
        keys: A fingerprint of the inputs of each.
        labels: A number for each, or nothing; one-hot labels as classes.
        kind: ``"classes"`` for whole numbers, ``"amounts"``, or ``""`` where no label is one number.
        rows: ``(samples, values)``: the inputs of the first ones.
        shape: Shape of one sample, where ``rows`` hold all values of one input; else empty.
        tokens: Whether the rows hold ids.
        pooled: ``(samples, features)`` of the first ones, where samples differ in length and ``rows`` are empty.
        several: The labels, where they are more than one number each.
        field: Name of the labels.
        sizes: Samples of each batch.
    """

    keys: Keys
    labels: Array
    kind: LabelKind
    rows: Array
    shape: tuple[int, ...] = ()
    tokens: bool = False
    pooled: Array = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
    several: SeveralLabels = dataclasses.field(default_factory=SeveralLabels)
    field: str = ""
    sizes: list[int] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def kept_labels(self) -> Array:
        """The labels of the samples in ``rows``."""
        return self.labels[: len(self.rows)]


def inputs_of(fields: Sequence[Field], size: int) -> list[Field]:
    """The fields that make a sample what it is: inputs and tokens, or whatever is no label where there are none."""
    usable = [item for item in fields if size and item.size == size and item.kind != "texts" and item.tensor.numel()]
    chosen = [item for item in usable if item.role in ("input", "tokens")]
    return chosen or [item for item in usable if item.role == "other"]


def label_of(fields: Sequence[Field], size: int) -> tuple[str, LabelKind, Tensor] | None:
    """Name, kind and one number for each sample, where the first labels have that."""
    for item in fields:
        if item.role != "label" or item.size != size or not size:
            continue
        values = item.samples
        if item.kind == "one-hot" and values.ndim == 2:
            if not bool((values.sum(1) == 1).all()):  # so were those of the first batch, by chance
                return None
            return item.path, "classes", values.float().argmax(1)
        if values.numel() != size:
            return None
        values = values.reshape(size)
        whole = item.kind in ("classes", "binary", "texts") or not values.is_floating_point()
        return item.path, "classes" if whole else "amounts", values
    return None


class SampleStream:
    """Gathers :class:`Samples` batch by batch.

    >>> from lightning_debug.probes.batch_roles import batch_roles
    >>> stream = SampleStream()
    >>> batch = torch.randn(8, 3), torch.arange(8) % 2
    >>> stream.add(batch_roles(batch), 8)
    >>> gathered = stream.samples()
    >>> len(gathered), gathered.kind, gathered.labels[:4].tolist(), gathered.rows.shape
    (8, 'classes', [0, 1, 0, 1], (8, 3))
    """

    def __init__(self, rows: int = KEPT_ROWS) -> None:
        self._keys: list[Keys] = []
        self._labels: list[Array] = []
        self._rows, self._width = BatchShelf(), -1
        self._wanted = rows
        self._pooled = PooledSamples() if rows >= KEPT_ROWS else None
        self._kinds: set[LabelKind] = set()
        self._shapes: set[tuple[int, ...]] = set()
        self._tokens = False
        self._field = ""
        self._several = SeveralStream() if rows >= KEPT_ROWS else None
        self._waiting: list[tuple[list[Tensor], list[Tensor], Tensor | None]] = []
        self._waiting_like: Any = None
        self._waiting_bytes = 0
        self.sizes: list[int] = []
        self.count = 0
        self._everything = 0

    def add(self, fields: Sequence[Field], size: int) -> None:
        """Takes in one batch; one without inputs that are told apart counts for nothing.

        Small batches are copied, and turned into keys many at once: a call costs more than a few hundred values.
        """
        inputs = inputs_of(fields, size)
        if not inputs or self.count >= MOST_SAMPLES:
            return
        known, beside = set(map(id, inputs)), []
        for item in fields:
            if id(item) in known:
                continue
            if item.tensor.ndim and item.tensor.shape[0] == size:
                beside.append(_compact(item, item.tensor))
            elif item.tensor.numel():
                self._everything += int(fingerprints([item.tensor.reshape(1, -1)])[0])
        self.sizes.append(size)
        self.count += size
        label = label_of(fields, size)
        self._kinds.add(label[1] if label else "")
        values = None
        if label is not None:
            self._field = label[0]
            values = label[2].double() if label[2].is_floating_point() else label[2].long()
        if self._several is not None and not self._several.is_over:
            self._several.add(several_of(fields, size))
        if self._wanted > 0:
            self._keep(inputs)
        if self._pooled is not None:
            self._pool(inputs)
        self._wait([_compact(item, item.samples) for item in inputs], beside, values)

    @property
    def asks_for_keys(self) -> bool:
        """Whether batches from now on may be :class:`~lightning_debug.probes.held_batches.HeldBatches`' fields."""
        return self._wanted <= 0 and self._pooled is None

    def _wait(self, tensors: list[Tensor], beside: list[Tensor], labels: Tensor | None) -> None:
        everything = [*tensors, *beside, *([] if labels is None else [labels])]
        widths = [item.shape[1] if item.ndim == 2 else 0 for item in everything]
        like = [item.dtype for item in everything], widths, len(tensors)
        size = sum([item.nbytes for item in everything])
        if like != self._waiting_like or size >= LARGE:
            self._take()
            self._waiting_like = like
        own = (lambda item: item) if size >= LARGE else torch.clone  # the run may write to what is its own
        self._waiting.append(([*map(own, tensors)], [*map(own, beside)], None if labels is None else own(labels)))
        self._waiting_bytes += size
        if self._waiting_bytes >= 2 * LARGE or len(self._waiting) >= WAITING or size >= LARGE:
            self._take()

    def _take(self) -> None:
        """Turns what waits into keys."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return
        tensors, beside = _joined([item[0] for item in waiting]), _joined([item[1] for item in waiting])
        keys = fingerprints(tensors)
        self._keys.append(keys)
        # a sum over samples that no order changes, of all that was delivered: labels and masks as well
        mixed = keys ^ (fingerprints(beside) * _ODD) if beside else keys
        self._everything += int(mixed.sum(dtype=np.uint64))
        labels = [item[2] for item in waiting if item[2] is not None]
        if labels:
            self._labels.append(torch.cat(labels).numpy().copy())

    @property
    def everything(self) -> int:
        """A fingerprint of all fields of all samples, whatever their order."""
        self._take()
        return self._everything % 2**64

    def _keep(self, inputs: Sequence[Field]) -> None:
        self._tokens = all(item.role == "tokens" for item in inputs)
        self._shapes.add(tuple(inputs[0].samples.shape[1:]) if len(inputs) == 1 else ())
        share = KEPT_VALUES // len(inputs)
        known = [item.samples[: self._wanted] for item in inputs if not item.tensor.is_complex()]
        parts = [spread(spread(item, MOST_VALUES), share) for item in known]
        rows = np.concatenate([item.to(torch.float32).numpy() for item in parts], 1) if parts else np.zeros((0, 0))
        if len(self._rows) and self._width != rows.shape[1]:
            self._wanted = 0  # samples of different sizes: no table of them
            self._rows = BatchShelf()
            return
        self._width = rows.shape[1]
        self._rows.put(rows)
        self._wanted -= len(rows)

    def _pool(self, inputs: Sequence[Field]) -> None:
        widest = max(inputs, key=lambda item: item.tensor.numel())
        assert self._pooled is not None
        self._pooled.add(widest.samples, tokens=widest.role == "tokens")
        if self._pooled.is_useless:
            self._pooled = None

    def samples(self) -> Samples:
        """All that was gathered so far."""
        self._take()
        one_kind = len(self._kinds) == 1
        kind: LabelKind = next(iter(self._kinds)) if one_kind else ""
        rows = np.concatenate(self._rows.first()) if len(self._rows) else np.zeros((0, 0), np.float32)
        shape = next(iter(self._shapes)) if len(self._shapes) == 1 else ()
        several = SeveralLabels() if kind or self._several is None else self._several.labels()
        return Samples(
            keys=np.concatenate(self._keys) if self._keys else np.zeros(0, np.uint64),
            labels=np.concatenate(self._labels) if kind else np.zeros(0),
            kind=kind,
            rows=rows,
            shape=shape if int(np.prod(shape)) == rows.shape[1] else (),
            tokens=self._tokens,
            pooled=self._pooled.rows() if self._pooled is not None and not rows.shape[1] else rows[:0, :0],
            several=several,
            field=self._several.field if several.kind and self._several is not None else self._field,
            sizes=list(self.sizes),
        )


def _compact(field: Field, values: Tensor) -> Tensor:
    return compact(values) if field.keys is None else field.keys


def _joined(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return list(parts[0]) if len(parts) == 1 else [torch.cat(list(same)) for same in zip(*parts, strict=True)]
