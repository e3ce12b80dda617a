"""What a loader's attributes say about the order of its samples; nothing is iterated."""

from __future__ import annotations

from collections import deque
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

_DRAWS = frozenset({"randperm", "shuffle", "permutation", "permuted"})

MOST_HELD = 64
"""Attributes, or items, among which a net is looked for: datasets that hold their samples in lists hold more."""

Indices = npt.NDArray[np.int64]


def hands_on_items(loader: Any) -> bool:
    """Whether a loader hands on what its dataset gives for one index, without making batches (``batch_size=None``).

    >>> from torch.utils.data import DataLoader
    >>> [hands_on_items(one) for one in (DataLoader([1, 2], batch_size=None), DataLoader([1, 2]), [1, 2])]
    [True, False, False]
    """
    return getattr(loader, "batch_sampler", True) is None and not asks_for_lists(loader)


def asks_for_lists(loader: Any) -> bool:
    """Whether a dataset is asked for whole lists of indices: ``sampler=BatchSampler(…), batch_size=None``.

    >>> from torch.utils.data import DataLoader
    >>> batches = BatchSampler(SequentialSampler([1, 2]), 2, False)
    >>> asks_for_lists(DataLoader([1, 2], batch_size=None, sampler=batches)), asks_for_lists(DataLoader([1, 2]))
    (True, False)
    """
    return getattr(loader, "batch_sampler", True) is None and isinstance(getattr(loader, "sampler", None), BatchSampler)


def ordering(sampler: Any, batch_sampler: Any = None) -> tuple[Any, bool | None]:
    """What orders the samples, and whether that shuffles; ``None`` where that is not known.

    >>> ordering(SequentialSampler([1, 2]))[1], ordering(RandomSampler([1, 2]))[1], ordering(iter([1]))[1]
    (False, True, None)
    """
    for one in (batch_sampler, sampler):
        if one is not None and isinstance(one, BatchSampler) and type(one) is not BatchSampler:
            return one, None  # makes batches its own way
    if batch_sampler is not None and not isinstance(batch_sampler, BatchSampler):
        return batch_sampler, None
    while isinstance(sampler, BatchSampler):
        sampler = sampler.sampler
    if type(sampler) is SequentialSampler:
        return sampler, False
    if isinstance(sampler, DistributedSampler):
        return sampler, bool(sampler.shuffle)
    if type(sampler) in (RandomSampler, SubsetRandomSampler, WeightedRandomSampler):
        return sampler, True
    return sampler, None


def draws_an_order(sampler: Any) -> bool:
    """Whether somebody's own sampler draws a new order each time that it is asked, by the code of its ``__iter__``.

    One that only hands on the order it was given, or made once, does not.

    >>> class Own(SequentialSampler):
    ...     def __iter__(self):
    ...         return iter(np.random.permutation(2).tolist())
    >>> draws_an_order(Own([1, 2])), draws_an_order(SequentialSampler([1, 2]))
    (True, False)
    """
    code = getattr(getattr(type(sampler), "__iter__", None), "__code__", None)
    return code is not None and not _DRAWS.isdisjoint(code.co_names)


def draws_again(sampler: Any) -> bool:
    """Whether a sample may be drawn twice in an epoch: with replacement, or by a sampler of somebody's own.

    >>> draws_again(RandomSampler([1, 2])), draws_again(RandomSampler([1, 2], replacement=True)), draws_again([[0, 0]])
    (False, True, True)
    """
    own = type(sampler) not in (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
    known = sampler is None or isinstance(sampler, DistributedSampler)
    return bool(getattr(sampler, "replacement", False)) or (own and not known)


def is_filled(dataset: Any) -> bool:
    """Whether a dataset keeps its samples in a queue: a memory that is filled while training goes on.

    >>> from types import SimpleNamespace
    >>> is_filled(SimpleNamespace(rows=deque([1], maxlen=9))), is_filled(SimpleNamespace(rows=[1])), is_filled([1])
    (True, False, False)
    """
    return any(isinstance(held, deque) for held in getattr(dataset, "__dict__", {}).values())


def holds_net(dataset: Any, trained: nn.Module, depth: int = 3) -> bool:
    """Whether a dataset keeps the net that is trained, or an agent that keeps it: what it gives may be its own play.

    >>> from types import SimpleNamespace
    >>> net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> agent = SimpleNamespace(policy=net)
    >>> [holds_net(SimpleNamespace(one=one), net) for one in (net, agent, agent.policy.forward, other, 3)]
    [True, True, True, False, False]
    """
    parameters = {id(item) for item in trained.parameters() if item.requires_grad}
    return _holds(dataset, parameters, depth)


def _holds(held: Any, parameters: set[int], depth: int) -> bool:
    if isinstance(held, nn.Module):
        return any(id(item) in parameters for item in held.parameters())
    if not depth or isinstance(held, type | ModuleType):
        return False
    if isinstance(held, MethodType | partial):
        held = (held.__self__,) if isinstance(held, MethodType) else (held.func, *held.args, *held.keywords.values())
    elif isinstance(held, FunctionType):
        held = tuple(_content(cell) for cell in held.__closure__ or ())
    elif isinstance(held, dict):
        held = tuple(held.values())
    elif not isinstance(held, tuple | list):
        held = tuple(getattr(held, "__dict__", {}).values())
    return len(held) <= MOST_HELD and any(_holds(item, parameters, depth - 1) for item in held)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def delivered(sampler: Any, length: int) -> Indices | None:
    """The places in a dataset that a sampler can deliver; ``None`` where that is not known.

    >>> delivered(SubsetRandomSampler([4, 2]), 6).tolist()
    [2, 4]
    """
    if type(sampler) in (SequentialSampler, RandomSampler) or isinstance(sampler, DistributedSampler):
        return np.arange(length)
    if isinstance(sampler, WeightedRandomSampler) and len(sampler.weights) == length:
        return np.flatnonzero(np.asarray(sampler.weights) > 0)
    if type(sampler) is SubsetRandomSampler:
        try:
            found = np.unique(np.asarray(list(sampler.indices), dtype=np.int64))
        except (TypeError, ValueError):
            return None
        return found[found < length]
    return None
