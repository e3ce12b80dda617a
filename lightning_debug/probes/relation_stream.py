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
from lightning_debug.probes.relation_fingerprints import MOST_VALUES, Keys, fingerprints, spread

Array = npt.NDArray[Any]
LabelKind = Literal["classes", "amounts", ""]

MOST_SAMPLES = 2**22
"""Samples of an epoch whose keys are kept: 16 bytes each."""
KEPT_ROWS, KEPT_VALUES = 1024, MOST_VALUES
"""The first samples are kept with up to so many values each: 4 MiB."""

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
        field: Name of the labels.
        sizes: Samples of each batch.
        whole: Whether every value of a sample is in its key.
    """

    keys: Keys
    labels: Array
    kind: LabelKind
    rows: Array
    shape: tuple[int, ...] = ()
    tokens: bool = False
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

    everything: int
    """A fingerprint of all fields of all samples, whatever their order."""

    def __init__(self, rows: int = KEPT_ROWS) -> None:
        self._keys: list[Keys] = []
        self._labels: list[Array] = []
        self._rows: list[Array] = []
        self._wanted = rows
        self._kinds: set[LabelKind] = set()
        self._shapes: set[tuple[int, ...]] = set()
        self._tokens = False
        self._field = ""
        self.sizes: list[int] = []
        self.count = 0
        self.everything = 0

    def add(self, fields: Sequence[Field], size: int) -> None:
        """Takes in one batch; one without inputs that are told apart counts for nothing."""
        inputs = inputs_of(fields, size)
        if not inputs or self.count >= MOST_SAMPLES:
            return
        tensors = [spread(item.samples, MOST_VALUES) for item in inputs]  # one look at what may be large
        keys = fingerprints(tensors)
        self._keys.append(keys)
        self._add_everything(keys, [item.tensor for item in fields if all(item is not one for one in inputs)])
        self.sizes.append(size)
        self.count += size
        label = label_of(fields, size)
        self._kinds.add(label[1] if label else "")
        if label is not None:
            self._field = label[0]
            values = label[2]
            kept = values.double() if values.is_floating_point() else values.long()
            self._labels.append(kept.numpy().copy())
        if self._wanted > 0:
            self._keep(inputs, tensors)

    def _add_everything(self, keys: Keys, rest: Sequence[Tensor]) -> None:
        """A sum over samples that no order changes, of all that was delivered: labels, masks, what has no samples."""
        size = len(keys)
        with_samples = [item for item in rest if item.ndim and len(item) == size]
        mixed = keys ^ (fingerprints(with_samples) * _ODD) if with_samples else keys
        total = int(mixed.sum(dtype=np.uint64))
        for tensor in rest:
            if tensor.numel() and not (tensor.ndim and len(tensor) == size):
                total += int(fingerprints([tensor.reshape(1, -1)])[0])
        self.everything = (self.everything + total) % 2**64

    def _keep(self, inputs: Sequence[Field], tensors: Sequence[Tensor]) -> None:
        self._tokens = all(item.role == "tokens" for item in inputs)
        self._shapes.add(tuple(inputs[0].samples.shape[1:]) if len(inputs) == 1 else ())
        share = KEPT_VALUES // len(tensors)
        parts = [spread(item[: self._wanted], share) for item in tensors if not item.is_complex()]
        rows = np.concatenate([item.to(torch.float32).numpy() for item in parts], 1) if parts else np.zeros((0, 0))
        if self._rows and self._rows[0].shape[1] != rows.shape[1]:
            self._wanted = 0  # samples of different sizes: no table of them
            self._rows.clear()
            return
        self._rows.append(rows.copy())
        self._wanted -= len(rows)

    def samples(self) -> Samples:
        """All that was gathered so far."""
        one_kind = len(self._kinds) == 1
        kind: LabelKind = next(iter(self._kinds)) if one_kind else ""
        rows = np.concatenate(self._rows) if self._rows else np.zeros((0, 0), np.float32)
        shape = next(iter(self._shapes)) if len(self._shapes) == 1 else ()
        return Samples(
            keys=np.concatenate(self._keys) if self._keys else np.zeros(0, np.uint64),
            labels=np.concatenate(self._labels) if kind else np.zeros(0),
            kind=kind,
            rows=rows,
            shape=shape if int(np.prod(shape)) == rows.shape[1] else (),
            tokens=self._tokens,
            field=self._field,
            sizes=list(self.sizes),
        )
