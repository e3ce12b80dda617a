"""Deep copies of data sets: what cannot change is shared, and samples in plain lists are copied at a glance."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

FEW = 256
"""Lists of at most so many items are left to :func:`copy.deepcopy`."""

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})


class _NotPlain(Exception):
    """There is more in it than numbers and texts in lists, tuples and dictionaries."""


def own_copy(dataset: Any) -> Any:
    """A copy that can be asked, and draw and count, while the original stays as it is.

    Like :func:`copy.deepcopy`, at a tenth of its time for tens of thousands of samples in lists, and without reading
    arrays that are mapped to a file for reading only. Two samples that are one object are two in the copy.

    Raises:
        Exception: What the copied objects raise.

    >>> texts = [([1, 2, 3], 0)] * 1000
    >>> copied = own_copy({"texts": texts})
    >>> copied["texts"] == texts, copied["texts"][0] is texts[0]
    (True, False)
    """
    memo: dict[int, Any] = {}
    _foresee(dataset, memo, 3)
    return copy.deepcopy(dataset, memo)


def _foresee(root: Any, memo: dict[int, Any], depth: int) -> None:
    inside: Iterable[Any]
    if isinstance(root, np.ndarray):
        if not root.flags.writeable and not root.dtype.hasobject:
            memo[id(root)] = root
        return
    if type(root) in (list, dict) and len(root) > FEW:
        try:
            memo[id(root)] = _plain(root)
        except (_NotPlain, RecursionError):
            return
    elif type(root) in (list, tuple):
        inside = root
    elif type(root) is dict:
        inside = root.values()
    else:
        inside = getattr(root, "__dict__", {}).values()
    if depth and id(root) not in memo:
        for item in [*inside]:
            _foresee(item, memo, depth - 1)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is list:
        return value.copy() if _ATOMS.issuperset(map(type, value)) else [_plain(item) for item in value]
    if kind is tuple:
        return tuple([_plain(item) for item in value])
    if kind is dict:
        return {_plain(key): _plain(item) for key, item in value.items()}
    raise _NotPlain
