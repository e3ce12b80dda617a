"""Whether a collate function keeps together what belongs to one sample: batches of one against a batch of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_debug.probes.batch_fields import tensors_and_texts
from lightning_debug.probes.batch_roles import batch_roles

FEWEST = 4
"""Fewer samples are put in another order by hardly anything."""
FEWEST_VALUES = 4
"""A row of fewer values does not tell which sample it is of."""

Matches = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Parted:
    """A column of numbers that stands in another order than the inputs.

    Args:
        field: Path of the column.
        inputs: Path of the inputs.
        samples: Samples of the batch.
        moved: Rows of ``inputs`` beside which the number of another sample stands.
    """

    field: str
    inputs: str
    samples: int
    moved: int


def parted(items: Sequence[Any], collate: Callable[..., Any], seed: Callable[[], None]) -> Parted | None:
    """Finds a column whose rows are those of the samples, and not beside their inputs.

    What a batch of one sample makes of it tells which row is whose: rows are compared value by value, but for padding.
    Columns that another input, or another column with the same numbers, agrees with are parted on purpose.

    Args:
        items: Samples as the dataset gives them.
        collate: The loader's collate function.
        seed: Puts the global generators back to one state, so that what collate draws can be asked for again.

    >>> def collate(items):
    ...     rows = sorted((row for row, _ in items), key=lambda row: row[0])
    ...     return torch.stack(rows), torch.tensor([label for _, label in items])
    >>> parted([(torch.full((5,), 9 - k), k) for k in range(6)], collate, lambda: None)
    Parted(field='batch[1]', inputs='batch[0]', samples=6, moved=6)
    """
    if len(items) < FEWEST:
        return None
    batches, singles = (
        [_asked(part, collate, seed) for part in parts] for parts in ([items] * 2, [[x] for x in items])
    )
    alone = [dict(_tensors(single)) for single in singles]
    first, second = (dict(_tensors(batch)) for batch in batches)
    if first.keys() != second.keys() or any(not _same(first[key], second[key]) for key in first):
        return None
    found = {path: match for path, tensor in first.items() if (match := _matches(path, tensor, alone)) is not None}
    orders = {
        path: match.argmax(1)
        for path, match in found.items()
        if first[path][0].numel() >= FEWEST_VALUES and _is_permutation(match)
    } or _order_of_all({path: match for path, match in found.items() if first[path][0].numel() >= FEWEST_VALUES})
    labels = {item.path for item in batch_roles(batches[0]) if item.role == "label"}
    columns = [
        path
        for path, match in found.items()
        if (first[path].numel() == len(items) or path in labels) and path not in orders and _is_column(match)
    ]
    for path, match in _matches_of_lists(batches[0], singles).items():
        if not orders and _is_permutation(match):
            orders[path] = match.argmax(1)
        elif _is_column(match):
            columns.append(path)
            found[path] = match
    for path in columns:
        moved = {other: _moved(found[path], order) for other, order in orders.items()}
        if not moved or min(moved.values()) < 2:
            continue
        inputs = min(moved, key=lambda key: moved[key])
        beside = [item for item in columns if item != path and _equal_numbers(first.get(item), first.get(path))]
        if not any(_moved(found[item], orders[inputs]) == 0 for item in beside):
            return Parted(path, inputs, len(items), moved[inputs])
    if len(orders) < 2:
        return None
    _asked(items, collate, seed)
    return _inputs_parted(first, orders, dict(_tensors(collate(list(items)))))  # after what the call before has drawn


def _inputs_parted(
    batch: dict[str, Tensor], orders: dict[str, npt.NDArray[np.intp]], third: dict[str, Tensor]
) -> Parted | None:
    """Inputs of two kinds in two orders, such as pictures and their sorted captions, one of them that of the samples.

    An order that is drawn anew (``third`` is the batch without the generators put back) is one of negatives.
    """
    if any(path not in third or not _same(third[path], batch[path]) for path in orders):
        return None
    kept = [path for path, order in orders.items() if bool((order == np.arange(len(order))).all())]
    for path, order in orders.items():
        again = any(_equal_numbers(batch[other], batch[path]) for other in batch if other != path)
        moved = int((order != np.arange(len(order))).sum())
        if kept and moved >= 2 and not again and bool((order >= 0).all()):
            return Parted(path, kept[0], len(order), moved)
    return None


def _asked(items: Sequence[Any], collate: Callable[..., Any], seed: Callable[[], None]) -> Any:
    seed()
    return collate(list(items))


def _matches_of_lists(batch: Any, singles: Sequence[Any]) -> dict[str, Matches]:
    """Which item of a list with one for each sample, such as the boxes of a picture, may be of which sample."""
    found = {}
    for path, items in _lists(batch):
        ones = [dict(_lists(single)).get(path, ()) for single in singles]
        if len(items) == len(singles) and all(len(one) == 1 for one in ones):
            given, alone = [_values(item) for item in items], [_values(one[0]) for one in ones]
            if all(given):
                found[path] = np.array([[item == one for one in alone] for item in given])
    return found


def _lists(batch: Any) -> list[tuple[str, Sequence[Any]]]:
    """The lists in a batch, and in its parts."""
    parts = batch.items() if isinstance(batch, dict) else enumerate(batch) if isinstance(batch, (list, tuple)) else ()
    return [
        (f"batch[{key!r}]", part)
        for key, part in parts
        if isinstance(part, (list, tuple)) and not any(isinstance(item, str) for item in part)
    ]


def _values(item: Any) -> tuple[tuple[str, bytes], ...]:
    return tuple((path, tensor.contiguous().numpy().tobytes()) for path, tensor in _tensors([item]))


def _order_of_all(found: dict[str, Matches]) -> dict[str, npt.NDArray[np.intp]]:
    """Where no field tells all samples apart, as in small graphs: what all together tell, by the first path.

    A row that may be of several samples, or shares its own with another row, is of sample -1.
    """
    if len(found) < 2:
        return {}
    together = np.logical_and.reduce([*found.values()])
    alone = (together.sum(1) == 1) & (together[:, together.sum(0) == 1].sum(1) == 1)
    if int(alone.sum()) < max(FEWEST, len(alone) // 2):
        return {}
    return {next(iter(found)): np.where(alone, together.argmax(1), -1)}


def _tensors(batch: Any) -> list[tuple[str, Tensor]]:
    return [(path, tensor) for path, tensor, _ in tensors_and_texts(batch) if tensor.device.type == "cpu"]


def _same(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and one.dtype == two.dtype and bool(torch.equal(one.nan_to_num(), two.nan_to_num()))


def _matches(path: str, tensor: Tensor, alone: Sequence[dict[str, Tensor]]) -> Matches | None:
    """Which row of a batch may be of which sample."""
    ones = [batch.get(path) for batch in alone]
    size = len(alone)
    if tensor.is_complex() or any(one is None or one.ndim != tensor.ndim or one.dtype != tensor.dtype for one in ones):
        return None
    known = [one for one in ones if one is not None]
    dims = [d for d in range(tensor.ndim) if tensor.shape[d] == size and all(one.shape[d] == 1 for one in known)]
    if not dims:
        return None
    rows = [tensor.select(dims[0], index) for index in range(size)]
    singles = [one.select(dims[0], 0) for one in known]
    return np.array([[_fits(row, single) for single in singles] for row in rows])


def _fits(row: Tensor, single: Tensor) -> bool:
    """Whether a row is a sample's, and padding behind it."""
    if any(long < short for long, short in zip(row.shape, single.shape, strict=True)):
        return False
    inside = row[tuple(slice(0, length) for length in single.shape)]
    if not torch.equal(inside, single):
        return False
    if inside.shape == row.shape:
        return True
    outside = torch.ones(row.shape, dtype=torch.bool)
    outside[tuple(slice(0, length) for length in single.shape)] = False
    padding = row[outside]
    return bool((padding == padding[0]).all())


def _is_permutation(matches: Matches) -> bool:
    return bool((matches.sum(0) == 1).all() and (matches.sum(1) == 1).all())


def _is_column(matches: Matches) -> bool:
    """Whether rows are the samples' own in some order: as many of each value as there are samples with it."""
    return bool((matches.sum(0) >= 1).all() and (matches.sum(1) >= 1).all()) and _classes_agree(matches)


def _classes_agree(matches: Matches) -> bool:
    """Samples of equal value match equal rows, and they are equally many."""
    patterns = [row.tobytes() for row in matches]
    return all(patterns.count(pattern) == int(row.sum()) for pattern, row in zip(patterns, matches, strict=True))


def _moved(matches: Matches, order: npt.NDArray[np.intp]) -> int:
    return int((~matches[np.arange(len(order)), order])[order >= 0].sum())


def _equal_numbers(one: Tensor | None, two: Tensor | None) -> bool:
    if one is None or two is None or one.numel() != two.numel() or one.dtype != two.dtype:
        return False
    return bool(torch.equal(one.reshape(-1).sort().values, two.reshape(-1).sort().values))
