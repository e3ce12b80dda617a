"""Attributes that hold values together with the graphs that made them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

MOST_NODES = 20_000
"""Nodes of one graph that are counted."""

MOST_SUMS = 64
"""Values of a container up to which each is looked at for a running sum, such as one for each class."""

SMALLEST_SUM = 1
"""Additions in a row from which on a value is taken for a running sum."""


def kept_graphs(root: nn.Module) -> dict[tuple[str, str], tuple[int, int]]:
    """What a model's attributes keep of graphs.

    Returns:
        By path and kind (``"list"``, ``"sum"``): how many values with a graph a container holds, or how many terms
        were added up into one value; and the bytes of the values themselves.

    >>> model = nn.Linear(2, 1)
    >>> model.losses = [model.weight.sum(), model.weight.mean()]
    >>> kept_graphs(model)
    {('self.losses', 'list'): (2, 8)}
    """
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for path, module in root.named_modules():
        for name, value in list(vars(module).items()):
            if name in ("_modules", "_parameters", "_buffers", "_trainer"):
                continue
            place = f"self.{path}.{name}" if path else f"self.{name}"
            if isinstance(value, Tensor):
                terms = _terms(value)
                if terms >= SMALLEST_SUM:
                    found[place, "sum"] = (terms, value.numel() * value.element_size())
                continue
            held = list(_tensors(value))
            if held:
                size = sum(item.numel() * item.element_size() for item in held)
                found[place, "list"] = (len(held), size)
                if len(held) <= MOST_SUMS and (terms := sum(map(_terms, held))) >= SMALLEST_SUM:
                    found[place, "sum"] = (terms, size)
    return found


def _tensors(value: Any, depth: int = 3) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            yield value
    elif depth and isinstance(value, (list, tuple, deque)):
        for item in list(value):
            yield from _tensors(item, depth - 1)
    elif depth and isinstance(value, dict):
        for item in list(value.values()):
            yield from _tensors(item, depth - 1)


def _terms(value: Tensor) -> int:
    """How many additions in a row made a value: a sum, or an average that is scaled at each step."""
    terms: dict[Any, int] = {}
    waiting: list[Any] = [value.grad_fn] if _is_scaled_sum(value.grad_fn) else []
    while waiting and len(terms) < MOST_NODES:
        node = waiting[-1]
        before = [item for item, _ in node.next_functions if _is_scaled_sum(item)]
        missing = [item for item in before if item not in terms]
        if missing:
            waiting += missing
            continue
        terms[waiting.pop()] = _is_addition(node) + max((terms[item] for item in before), default=0)
    return max(terms.values(), default=0) if not waiting else sum(map(_is_addition, waiting))


def _is_addition(node: Any) -> bool:
    return type(node).__name__.startswith(("AddBackward", "SubBackward", "LerpBackward"))


def _is_scaled_sum(node: Any) -> bool:
    return _is_addition(node) or type(node).__name__.startswith(("MulBackward", "DivBackward"))
