"""The rows that a dataset in memory holds, read without asking it for a sample: no transform runs, nothing is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset, default_collate

from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.relation_stream import Samples, SampleStream, inputs_of

MOST_ROWS = 200_000
MOST_BYTES = 2**30
MOST_ITEMS = 20_000
"""A dataset with more rows or bytes, or a list with more items, is not read as a whole."""
DEPTH = 8
FEW = 16
"""Fewer numbers than this may be what a larger sample is made from."""


@dataclass(frozen=True)
class Rows:
    """Which rows of which object the samples of a dataset are.

    Args:
        base: The dataset that holds them: past every ``Subset``.
        indices: The row of each sample; ``None`` for all rows in their order.
    """

    base: Any
    indices: npt.NDArray[np.int64] | None = None

    def all(self) -> npt.NDArray[np.int64] | None:
        """The row of each sample; ``None`` where the base has no length."""
        return np.arange(_length(self.base)) if self.indices is None and _length(self.base) else self.indices


def rows_of(dataset: Any) -> Rows:
    """Looks past every ``Subset``.

    >>> inner = TensorDataset(torch.zeros(6, 2))
    >>> rows_of(Subset(Subset(inner, [1, 3, 5]), [2, 0])).indices.tolist()
    [5, 1]
    """
    indices: npt.NDArray[np.int64] | None = None
    for _ in range(DEPTH):
        if not isinstance(dataset, Subset):
            break
        try:
            own = np.asarray(list(dataset.indices), dtype=np.int64)
        except (TypeError, ValueError):
            break
        indices = own if indices is None else own[indices]
        dataset = dataset.dataset
    return Rows(dataset, indices)


def raw_samples(dataset: Any) -> Samples | None:
    """Keys and labels of all rows, in the dataset's order; ``None`` where they are not in memory.

    >>> found = raw_samples(TensorDataset(torch.randn(6, 4), torch.arange(6) % 2))
    >>> len(found), found.labels.tolist()
    (6, [0, 1, 0, 1, 0, 1])
    """
    columns = raw_columns(dataset)
    if columns is None:
        return None
    size = len(columns[0][1])
    shown = {f"batch[{name!r}]": f"batch[{name}]" if name.isdigit() else name for name, _ in columns}
    fields = [replace(field, path=shown.get(field.path, field.path)) for field in batch_roles(dict(columns))]
    if not any(item.role in ("input", "tokens") for item in fields) or not inputs_of(fields, size):
        return None
    stream = SampleStream()
    stream.add(fields, size)
    return stream.samples() if stream.count else None


def keeps_samples(dataset: Any) -> bool:
    """Whether a dataset keeps anything of as many items as it has samples; what cannot be looked at is held to.

    >>> keeps_samples(TensorDataset(torch.zeros(3, 2))), keeps_samples([1, 2, 3])
    (True, True)
    """
    count = _length(dataset)
    if not count or isinstance(dataset, _KEEPERS) or not hasattr(dataset, "__dict__"):
        return True
    held = [*vars(dataset).values()]
    for value in [*held]:
        if type(value) in (list, tuple, dict) and len(value) <= FEW:
            held += value.values() if type(value) is dict else value
    return any(_length(item) == count for item in held if not isinstance(item, (str, bytes)))


def kept_apart(raw: Samples, dataset: Any, delivered: Samples) -> Samples:
    """What tells of copies: the rows of a dataset, or what was delivered where its joined parts hold the same rows.

    One of the parts may give its rows as they are, and another with a transform.

    >>> base = TensorDataset(torch.randn(2, 3), torch.arange(2))
    >>> twice, given = raw_samples(ConcatDataset([base, base])), raw_samples(base)
    >>> kept_apart(twice, ConcatDataset([base, base]), given) is given, kept_apart(given, base, twice) is given
    (True, True)
    """
    rows = rows_of(dataset)
    places = rows.all() if isinstance(rows.base, ConcatDataset) else None
    if places is None or len(places) != len(raw):
        return raw
    part = np.searchsorted(np.asarray(rows.base.cumulative_sizes), places, side="right")
    pairs = np.stack([raw.keys, part.astype(np.uint64)], 1)
    return raw if len(np.unique(pairs, axis=0)) == len(np.unique(raw.keys)) else delivered


_KEEPERS = (TensorDataset, Subset, ConcatDataset, list, tuple, dict)


def make_samples(raw: Samples, delivered: Samples) -> bool:
    """Whether rows in memory only say how to make a sample (a place, parameters), or stand beside it (a label).

    Of what a dataset holds in forms that are not read (complex numbers, lists of objects, files) a label may be left.

    >>> few, many = raw_samples(TensorDataset(torch.randn(9, 4))), raw_samples(TensorDataset(torch.randn(9, 30)))
    >>> make_samples(few, many), make_samples(few, few), make_samples(many, many)
    (True, False, False)
    """
    held, given = raw.rows.shape[1], delivered.rows.shape[1]
    return bool(held < FEW and (given > 2 * held or held == 1 != given or not given))


def raw_columns(dataset: Any, depth: int = 0) -> list[tuple[str, Tensor]] | None:
    """Name and tensor of each column of a dataset that is in memory, in the order of its samples."""
    if isinstance(dataset, Subset):
        inner = raw_columns(dataset.dataset, depth + 1) if depth < DEPTH else None
        if inner is None:
            return None
        try:
            indices = torch.as_tensor(list(dataset.indices), dtype=torch.long)
            return [(name, tensor[indices]) for name, tensor in inner]
        except (TypeError, ValueError, IndexError, RuntimeError):
            return None
    if isinstance(dataset, ConcatDataset):
        return _joined([raw_columns(item, depth + 1) if depth < DEPTH else None for item in dataset.datasets])
    if isinstance(dataset, TensorDataset):
        found = [(str(index), tensor) for index, tensor in enumerate(dataset.tensors)]
    elif isinstance(dataset, (list, tuple)):
        found = _of_items(dataset)
    else:
        found = _of_attributes(dataset)
    return found if found and _is_small(found) else None


def _of_items(items: Sequence[Any]) -> list[tuple[str, Tensor]]:
    if not 0 < len(items) <= MOST_ITEMS or not isinstance(items[0], (tuple, list, dict, Tensor, np.ndarray)):
        return []
    try:
        batch = default_collate(list(items))
    except Exception:  # items of different sizes, or of kinds that it does not know
        return []
    named = [(field.path, field.tensor) for field in batch_roles(batch) if field.kind != "texts"]
    return [(name, tensor) for name, tensor in named if tensor.ndim and len(tensor) == len(items)]


def _of_attributes(dataset: Any) -> list[tuple[str, Tensor]]:
    """Tensors and arrays that a dataset of the user's keeps, of as many rows as it has samples."""
    count = _length(dataset)
    if not count or not hasattr(dataset, "__dict__"):
        return []
    found: list[tuple[str, Tensor]] = []
    for name, value in vars(dataset).items():
        if isinstance(value, TensorDataset) or type(value) is list:
            found += [] if _length(value) != count else (raw_columns(value) or _numbers(name, value))
            continue
        column = value
        if isinstance(value, np.ndarray) and not isinstance(value, np.memmap) and value.dtype.kind in "biuf":
            known = (
                value if value.flags.writeable else value.copy()
            )  # torch warns of what may not be written, as pandas'
            column = torch.from_numpy(np.ascontiguousarray(known)) if value.dtype.itemsize <= 8 else None
        if isinstance(column, Tensor) and column.ndim and len(column) == count and column.device.type == "cpu":
            found.append((name, column.detach()))
    return found


def _numbers(name: str, values: Any) -> list[tuple[str, Tensor]]:
    if type(values) is list and values and all(type(item) in (int, float, bool) for item in values):
        return [(name, torch.tensor(values))]
    return []


def _joined(parts: Sequence[list[tuple[str, Tensor]] | None]) -> list[tuple[str, Tensor]] | None:
    known = [part for part in parts if part]
    if len(known) != len(parts) or not known:
        return None
    try:
        return [(columns[0][0], torch.cat([column[1] for column in columns])) for columns in zip(*known, strict=True)]
    except (RuntimeError, ValueError):
        return None


def _is_small(columns: Sequence[tuple[str, Tensor]]) -> bool:
    sizes = {len(tensor) for _, tensor in columns if tensor.ndim}
    count = sum(tensor.numel() * tensor.element_size() for _, tensor in columns)
    plain = all(tensor.layout is torch.strided and tensor.device.type == "cpu" for _, tensor in columns)
    return plain and len(sizes) == 1 and max(sizes) <= MOST_ROWS and count <= MOST_BYTES


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except Exception:  # other people's datasets may have no length, or raise
        return 0
