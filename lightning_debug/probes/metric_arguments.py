"""Whether a metric of torchmetrics is given the labels where it asks for predictions, and the other way round."""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_debug.probes.trace import Call, tensors

EXCHANGED = "arguments exchanged"
"""The mistake."""
MOST = 32
"""So many uses of metrics in one step are kept."""
_MODEL = 0
"""What stands for the model among the sources of a tensor."""


@dataclass(frozen=True)
class Use:
    """One update or call of a metric, where the model made what came second and has no part in what came first.

    Args:
        name: The metric's path in the model, its class, or the function's name.
        line: Where the user gives it its arguments.
        given: What came first, as predictions.
        against: What came second, as labels.
        again: Computes the metric of two tensors alone.
        apart: Whether the second was made without what the first was made of.
    """

    name: str
    line: str
    given: Tensor
    against: Tensor
    again: Callable[[Tensor, Tensor], Any]
    apart: bool


class MetricArguments:
    """Follows what depends on the model through a step, and what metrics are given.

    Args:
        root: The model, for the paths of its metrics.

    Attributes:
        uses: The metrics that may have been given their arguments the other way round.
    """

    def __init__(self, root: nn.Module) -> None:
        self.uses: list[Use] = []
        self._names = {id(part): path for path, part in root.named_modules() if isinstance(part, Metric)}
        self._sources: dict[int, tuple[weakref.ref[Tensor], frozenset[int]]] = {}
        self._leaves: list[Tensor] = []
        self._frames: list[FrameType] = []

    def heard(self, call: Call) -> None:
        """A call is over: a handler of a :class:`~.trace.Trace`."""
        self._metric(call)
        mixed: frozenset[int] = frozenset().union(*map(self.sources, call.given))
        changed = [*call.made, *(call.given[:1] if call.op.name == "setitem" else ())]
        for tensor in changed:
            self._sources[id(tensor)] = weakref.ref(tensor), mixed

    def sources(self, tensor: Tensor) -> frozenset[int]:
        """What a tensor was made of: the model, and tensors that no call made."""
        known = self._sources.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        if isinstance(tensor, nn.Parameter):
            return frozenset({_MODEL})
        self._leaves.append(tensor)  # kept, so that its number stays its own
        found = frozenset({len(self._leaves)})
        self._sources[id(tensor)] = weakref.ref(tensor), found
        return found

    def _metric(self, call: Call) -> None:
        frame = _asked(sys._getframe(2)) if len(self.uses) < MOST else None  # noqa: SLF001 -- documented way to the stack
        if frame is None or any(frame is seen for seen in self._frames):
            return
        self._frames.append(frame)  # what it was given is read before it goes on to change it
        held = frame.f_locals
        given, against, owner = held["preds"], held["target"], held.get("self")
        first, second = self.sources(given), self.sources(against)
        if _MODEL in first or _MODEL not in second:
            return
        again = _of_object(owner) if isinstance(owner, Metric) else _of_function(frame)
        if again is not None:
            kind = type(owner).__name__ if isinstance(owner, Metric) else frame.f_code.co_name
            name, line = self._names.get(id(owner)) or kind, call.op.line
            self.uses.append(
                Use(name, line, given.detach().clone(), against.detach().clone(), again, not first & second)
            )


def swapped(uses: Sequence[Use], compared: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Use, float, float]]:
    """Metrics whose value is another one than with their arguments in order.

    That the first argument holds labels is certain where it equals what the step's loss compares the model's output
    with, or where the loss compares nothing and the second argument does not depend on it.

    Args:
        uses: What metrics were given.
        compared: Both operands of the step's losses.

    Yields:
        The use, the value as it is and the one in order. Values that are several numbers are represented by the first
        that differs.
    """
    for use in uses:
        if compared:
            certain = any(_equal(use.given, side) for pair in compared for side in pair)
        else:
            certain = use.apart and use.given.shape[:1] == use.against.shape[:1]
        values = _both_ways(use) if certain else None
        if values is not None:
            yield use, *values


def _both_ways(use: Use) -> tuple[float, float] | None:
    """What the metric gives as it is used, and the other way round (labels may have to be whole numbers there)."""
    try:
        as_is = use.again(use.given, use.against)
    except Exception:
        return None
    for labels in (use.given, use.given.long()):
        if not torch.equal(labels.to(torch.float64), use.given.to(torch.float64)):
            continue
        try:
            right = use.again(use.against, labels)
        except Exception:
            continue
        pairs = list(zip(_numbers(as_is), _numbers(right), strict=False))
        return next(((one, two) for one, two in pairs if abs(one - two) > 1e-4 * max(1.0, abs(two))), None)
    return None


def _numbers(value: Any) -> list[float]:
    return [number for item in tensors([value]) for number in item.detach().flatten().to(torch.float64).tolist()]


def _equal(one: Tensor, two: Tensor) -> bool:
    if one.numel() != two.numel() or not one.numel() or one.is_complex() or two.is_complex():
        return False
    return torch.equal(one.detach().flatten().to(torch.float64), two.detach().flatten().to(torch.float64))


def _asked(frame: FrameType | None) -> FrameType | None:
    """The outermost frame of torchmetrics, if a metric is at work, that holds predictions and labels as they came."""
    found = None
    within = False
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "torchmetrics":
            within = True
            names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
            if "preds" in names and "target" in names:
                held = frame.f_locals
                if isinstance(held.get("preds"), Tensor) and isinstance(held.get("target"), Tensor):
                    found = frame
        elif package not in ("torch", "lightning_debug", "contextlib"):
            break
        frame = frame.f_back
    return found if within else None


def _of_object(metric: Metric) -> Callable[[Tensor, Tensor], Any]:
    kept = copy.deepcopy(metric)

    def again(preds: Tensor, target: Tensor) -> Any:
        kept.reset()
        kept.update(preds, target)
        return kept.compute()

    return again


def _of_function(frame: FrameType) -> Callable[[Tensor, Tensor], Any] | None:
    code = frame.f_code
    function = frame.f_globals.get(code.co_name)
    if not callable(function):
        return None
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    options: Mapping[str, Any] = {
        name: frame.f_locals[name] for name in names if name not in ("preds", "target") and name in frame.f_locals
    }
    return lambda preds, target: function(preds=preds, target=target, **options)
