"""Calls by what they do to values: leave memory unwritten, write it unread, write what they are given, hand it on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debug.probes.vocabulary import canonical

FRESH = frozenset("empty empty_like empty_permuted empty_strided new_empty".split())
"""Calls whose output holds whatever the memory held before."""

HARMLESS = 0.5
"""Stands for unwritten memory in a re-run: every logarithm, root, divisor, inverse cosine is defined there."""

OVERWRITES = frozenset(
    """
    bernoulli_ cauchy_ copy_ exponential_ fill_ geometric_ log_normal_ normal_ random_ set_ uniform_ zero_
    """.split()
)
"""Calls that write all of their first argument and read nothing of it."""


ON_PURPOSE = frozenset(
    """
    as_tensor eye fill fill_diagonal from_numpy full full_like index_copy index_fill index_put masked_fill
    masked_scatter new_full new_tensor put scatter setitem tensor tril triu where
    """.split()
)
"""Calls that write the values they are given: an infinite one is there because somebody wrote it."""

CARRIES = frozenset(
    "abs add cat clamp div l1_loss max maximum mean min minimum mse_loss mul neg pad rsub stack sub sum".split()
)
"""Calls that hand an infinite operand on, and are not to blame for it."""


def writes(name: str, keywords: Mapping[str, Any]) -> bool:
    """Whether a call of this name writes to its first argument, or to ``out``.

    >>> writes("mul_", {}), writes("__iadd__", {}), writes("__init__", {}), writes("mul", {})
    (True, True, False, False)
    """
    in_place = (name.endswith("_") and not name.endswith("__")) or name in _AUGMENTED
    return in_place or canonical(name) == "setitem" or keywords.get("out") is not None


_AUGMENTED = frozenset(
    """
    __iadd__ __iand__ __idiv__ __ifloordiv__ __ilshift__ __imod__ __imul__ __ior__ __ipow__ __irshift__ __isub__
    __itruediv__ __ixor__
    """.split()
)


def read(name: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments whose values a call reads; those of an assignment come first, before what they are written to.

    >>> read("fill_", ("memory", 0.0), {}), read("add", ("x", "y"), {"out": "memory"})
    (((0.0,), {}), (('x', 'y'), {}))
    >>> read("__setitem__", ("memory", 0, "value"), {})
    (('value', 0, 'memory'), {})
    """
    kept = {key: item for key, item in keywords.items() if key != "out"}
    if name in OVERWRITES:
        return args[1:], kept
    return (args[::-1] if canonical(name) == "setitem" else args), kept


def filled(function: Callable[..., Any], value: float) -> Callable[..., Any]:
    """A call that gives fresh memory, with a value written to it: a re-run must not hang on what it happens to hold."""

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        made = function(*args, **keywords)
        if isinstance(made, Tensor) and keywords.get("out") is None and made.dtype.is_floating_point:
            with torch.no_grad():
                made.detach().fill_(value)
        return made

    return call
