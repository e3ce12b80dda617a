"""What a dataset draws when it is asked for the same samples again, on copies of it and with other global seeds."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debug.probes.batch_fields import tensors_and_texts
from lightning_debug.probes.own_copy import own_copy
from lightning_debug.probes.relation_fingerprints import fingerprints

MOST_BYTES = 2**26
"""Larger datasets are not copied."""
MOST_ITEMS = 200_000
_GENERATORS = (np.random.Generator, np.random.RandomState, torch.Generator, random.Random)


class NotCopied(Exception):
    """The dataset cannot be copied, so that nothing can be drawn from it without a trace."""


def draws(dataset: Any, collate: Callable[..., Any] | None, count: int = 4, *, lists: bool = False) -> dict[str, Any]:
    """Draws a few samples from copies of a dataset; the caller keeps the global generators' states.

    Args:
        dataset: Map-style, with a length.
        collate: The loader's collate function.
        count: How many samples.
        lists: Whether the dataset is asked for lists of indices.

    Returns:
        The fields of :class:`AugmentationDraws` that a dataset alone decides.

    Raises:
        NotCopied: If it cannot be copied, or is too large for that.
    """
    length = len(dataset)
    if length < 1 or not is_small(dataset):
        raise NotCopied(f"the dataset holds {length} samples, or too much to copy")
    try:
        one, two = own_copy(dataset), own_copy(dataset)
    except Exception as error:
        raise NotCopied(f"a copy of the dataset raises {type(error).__name__}") from error
    spread = [length * index // count for index in range(min(count, length))]
    places: list[Any] = [[place] for place in spread] if lists else spread
    seed_all(101)
    before = states_of_all()
    first = [_key(one[place], collate) for place in places]
    again = [_key(one[place], collate) for place in places]
    after_one = states_of_all()
    seed_all(202)
    second = [_key(two[place], collate) for place in places]
    _key(two[places[0]], collate)  # another sample last than above
    after_two = states_of_all()
    same = [name for name, state in after_one.items() if state == after_two[name]]
    redrawn = sum(one != two for one, two in zip(first, again, strict=True))
    varies = redrawn * 2 > len(places)
    return {
        "samples": len(places),
        "redrawn": redrawn,
        "varies": varies,
        "copies_agree": varies and second == first,
        "reseeds": same[0] if same else "",
        "owner": generator_of(dataset),
        "moves": tuple(name for name, state in after_one.items() if state != before[name]),
        "views": same_views([*first, *again]) if varies else (),
    }


def same_views(drawn: Sequence[Sequence[tuple[str, int]]]) -> tuple[str, ...]:
    """Paths of the views of a sample that are one and the same in each draw; empty where there are none.

    Views stand side by side in a list within the sample, or under keys that differ by their number alone. Two parts of
    a plain pair may be the same on purpose, as of an autoencoder.

    >>> same_views([[("batch[0][0]", 3), ("batch[0][1]", 3)], [("batch[0][0]", 8), ("batch[0][1]", 8)]])
    ('batch[0][0]', 'batch[0][1]')
    >>> same_views([[("batch[0]", 3), ("batch[1]", 3)], [("batch[0]", 8), ("batch[1]", 8)]])
    ()
    """
    groups: dict[str, list[str]] = {}
    for path, _ in drawn[0]:
        if re.fullmatch(r"batch\[\d+\]", path) is None:
            groups.setdefault(re.sub(r"\d+(?=\D*$)", "#", path), []).append(path)
    values = [dict(item) for item in drawn]
    for paths in groups.values():
        seen = [[item.get(path) for path in paths] for item in values]
        if len(paths) > 1 and all(None not in row and len(set(row)) == 1 for row in seen) and seen[0] != seen[-1]:
            return tuple(paths)
    return ()


def generator_of(root: Any, depth: int = 3) -> str:
    """Path of the first random generator that an object keeps, or nothing.

    >>> class Noisy:
    ...     def __init__(self):
    ...         self.rng = np.random.default_rng(0)
    >>> generator_of(Noisy())
    'rng'
    """
    if depth == 0 or not hasattr(root, "__dict__"):
        return ""
    for name, value in vars(root).items():
        if isinstance(value, _GENERATORS):
            return str(name)
    for name, value in vars(root).items():
        inside = generator_of(value, depth - 1) if not isinstance(value, (Tensor, np.ndarray, type)) else ""
        if inside:
            return f"{name}.{inside}"
    return ""


def is_generator(item: Any) -> bool:
    """Whether something is a random generator of its own."""
    return isinstance(item, _GENERATORS)


def _key(item: Any, collate: Callable[..., Any] | None) -> tuple[Any, ...]:
    try:
        batch = collate([item]) if collate is not None else item
    except Exception:  # a collate function that wants a full batch
        batch = item
    found = [(path, tensor) for path, tensor, _ in tensors_and_texts(batch) if tensor.device.type == "cpu"]
    return tuple((path, int(fingerprints([tensor.reshape(1, -1)])[0])) for path, tensor in found)


def seed_all(value: int) -> None:
    """Seeds the global generators."""
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - the one that datasets draw from
    torch.manual_seed(value)


def states_of_all() -> dict[str, Any]:
    """The states of the global generators, which can be compared."""
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "numpy": (numpy["state"]["pos"], numpy["state"]["key"].tobytes()),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "random": random.getstate(),
    }


def is_small(dataset: Any) -> bool:
    """Whether a dataset may be copied."""
    return _size(dataset) <= MOST_BYTES


def _size(root: Any, depth: int = 3) -> int:
    """Bytes of tensors and arrays that an object keeps; very long lists count as too many."""
    if isinstance(root, Tensor):
        return root.numel() * root.element_size()
    if isinstance(root, np.ndarray):
        return int(root.nbytes)
    if isinstance(root, (list, tuple, dict)):
        if len(root) > MOST_ITEMS:
            return MOST_BYTES + 1
        inside: Sequence[Any] = list(root.values() if isinstance(root, dict) else root)
        if not depth or not inside:
            return 64 * len(inside)
        few = inside[:64]
        return int(sum(_size(item, depth - 1) for item in few) / len(few) * len(inside)) + 64 * len(inside)
    if depth and hasattr(root, "__dict__"):
        return sum(_size(item, depth - 1) for item in vars(root).values())
    return 64
