"""What a ``worker_init_fn`` that seeds leaves of the seeds that torch gives each worker in each epoch."""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

_MODULES = (np, np.random, random, torch)
_SEEDS = (np.random.seed, random.seed, torch.manual_seed)
_WORDS = frozenset({"seed", "manual_seed", "initial_seed", "get_state", "random", "int", "abs", "hash", "range"})
BASES = (101, 20202)
"""What torch adds to a worker's number to seed it, in two epochs."""


def held_seeds(
    init: Any, seed: Callable[[int], None], states: Callable[[], dict[str, Any]]
) -> tuple[frozenset[str], frozenset[str]]:
    """Global generators whose state after ``init`` is one and the same: in each worker, and in each epoch.

    Only functions are called that do nothing but seed, by their code. The caller puts the generators back.

    Args:
        init: The ``worker_init_fn`` of a loader.
        seed: Seeds all global generators.
        states: Reads them.

    Returns:
        Those that are the same in two workers of two epochs, and those that are the same in one worker of two epochs.
    """
    if not only_seeds(init):
        return frozenset(), frozenset()
    left = {}
    for base in BASES:
        for worker in (0, 1):
            seed(base + worker)
            try:
                init(worker)
            except Exception:  # what it was made for is a worker process
                return frozenset(), frozenset()
            left[base, worker] = states()
    first, second = BASES
    epochs = {name for name, state in left[first, 0].items() if left[second, 0][name] == state}
    workers = {name for name in epochs if left[first, 1][name] == left[first, 0][name] == left[second, 1][name]}
    return frozenset(workers), frozenset(epochs)


def only_seeds(init: Any) -> bool:
    """Whether a function does nothing but seed the generators of torch, NumPy and Python, as far as its code tells.

    >>> only_seeds(lambda worker: np.random.seed(worker)), only_seeds(np.random.seed), only_seeds(print)
    (True, True, False)
    """
    if isinstance(init, functools.partial):
        return only_seeds(init.func)
    if any(init is one for one in _SEEDS):
        return True
    if not isinstance(init, types.FunctionType):
        return False
    code = init.__code__
    if any(isinstance(constant, types.CodeType) for constant in code.co_consts):
        return False
    cells = [cell.cell_contents for cell in init.__closure__ or () if not _is_empty(cell)]
    named = all(_is_known(init.__globals__.get(name), name) for name in code.co_names)
    return named and "seed" in " ".join(code.co_names) and all(isinstance(cell, int) for cell in cells)


def _is_known(value: Any, name: str) -> bool:
    """Whether a name of some code is a module, a function or an attribute that seeds, or a number."""
    if value is None:
        return name in _WORDS
    return isinstance(value, int) or any(value is one for one in (*_MODULES, *_SEEDS))


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - asked for the error
    except ValueError:
        return True
    return False
