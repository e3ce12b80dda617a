"""Batches like one before, held back in little memory until there are several to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debug.probes.batch_roles import Field, with_tensor
from lightning_debug.probes.relation_fingerprints import WHOLE, compact, digested, digests, in_place_of

FULL = 16
"""Batches that are held before they are read: a call from a cold cache takes three times as long as the next one."""

LARGE = 2**15
"""Bytes of a batch beyond which no copies are held."""

HELD = {torch.float16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
HELD.add(torch.bool)
"""What both torch and NumPy know."""


class HeldBatches:
    """Batches of tensors, each of the type and shape of those of one batch.

    A run may write to what is its own, so that values are copied, or what their fingerprint is made of where a sample
    has many of them (:func:`~lightning_debug.probes.relation_fingerprints.compact`), which spares a copy of the batch.

    Args:
        batch: The one before.
        fields: Its fields.
        epoch: The epoch that they are of.

    >>> from lightning_debug.probes.batch_roles import batch_roles
    >>> batch = torch.randn(4, 3, 32, 32), torch.arange(4)
    >>> held = HeldBatches.like(batch, batch_roles(batch))
    >>> held.take((torch.ones(4, 3, 32, 32), torch.arange(4) + 1)), held.take((torch.ones(3, 3, 32, 32), torch.ones(3)))
    (True, False)
    >>> [[item.tensor.shape[0] for item in fields] for fields in held.release()], len(held)
    ([[4, 4]], 0)
    """

    def __init__(self, batch: Sequence[Tensor] | dict[Any, Tensor], fields: Sequence[Field], epoch: int = 0) -> None:
        self.epoch = epoch
        self._type, self._names = type(batch), list(batch) if isinstance(batch, dict) else []
        self.size = fields[0].size
        """Samples of each batch."""
        self._like = [(item.tensor.dtype, item.tensor.shape, _is_wide(item), _is_whole(item)) for item in fields]
        stand_ins = [torch.zeros((), dtype=dtype).expand(shape) for dtype, shape, _, _ in self._like]
        self._fields = [with_tensor(item, empty, self.size) for item, empty in zip(fields, stand_ins, strict=True)]
        self._held: list[list[Any]] = []

    @classmethod
    def like(cls, batch: Any, fields: Sequence[Field], epoch: int = 0) -> HeldBatches | None:
        """Where a batch is a plain list, tuple or dictionary of tensors on the CPU; ``None`` where it is not."""
        if type(batch) not in (list, tuple, dict) or len(batch) != len(fields) or not fields:
            return None
        values = _values(batch)
        size, copied = fields[0].size, 0
        for value, item in zip(values, fields, strict=True):
            same = type(value) is Tensor and value.shape == item.tensor.shape and value.dtype in HELD
            if not same or item.dim != 0 or item.size != size or not value.numel():
                return None
            copied += 0 if _is_wide(item) else value.nbytes
        return cls(batch, fields, epoch) if size and copied <= LARGE else None

    def take(self, batch: Any) -> bool:
        """Holds a batch; says whether it is like the one before, so that it could be."""
        if type(batch) is not self._type or len(batch) != len(self._like):
            return False
        if self._names and [*batch] != self._names:
            return False
        held: list[Any] = []
        try:
            for tensor, (dtype, shape, wide, whole) in zip(_values(batch), self._like, strict=True):
                if type(tensor) is not Tensor or tensor.dtype is not dtype or tensor.shape != shape:
                    return False
                if wide and not whole:
                    held.append(compact(tensor))
                    continue
                values = tensor.numpy()  # few calls: they are made in each step, from a cold cache
                if not wide:
                    held.append(values.copy())
                else:
                    held.append(digested(values if values.flags.c_contiguous else np.ascontiguousarray(values)))
        except (RuntimeError, TypeError):  # on a device, sparse, negated in place, requiring gradients
            return False
        self._held.append(held)
        return True

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_full(self) -> bool:
        """Whether it is time to read them."""
        return len(self._held) >= FULL

    def release(self) -> Iterator[list[Field]]:
        """The fields of each batch held, which is then forgotten; those of many values have ``keys`` in their place."""
        held, self._held = self._held, []
        for values in held:
            fields = []
            for item, value, (_, _, wide, whole) in zip(self._fields, values, self._like, strict=True):
                field = with_tensor(item, item.tensor if wide else torch.from_numpy(value), self.size)
                if wide:
                    vars(field)["keys"] = in_place_of(value) if whole else value
                fields.append(field)
            yield fields


def _values(batch: Any) -> Sequence[Tensor]:
    return [*batch.values()] if isinstance(batch, dict) else batch


def _is_wide(field: Field) -> bool:
    return field.role != "label" and digests(field.tensor)


def _is_whole(field: Field) -> bool:
    return field.tensor.nbytes <= WHOLE * field.size
