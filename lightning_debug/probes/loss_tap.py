"""The loss calls of one step with their tensors, for as long as the step's graph is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.probes.loss_vocabulary import LOSS_FUNCTIONS, THROUGH, bound
from lightning_debug.probes.trace import Call, Op, Trace

RANDOM = frozenset(
    """
    bernoulli cauchy exponential geometric log_normal multinomial normal poisson rand rand_like randint
    randint_like randn randn_like random uniform
    """.split()
)
"""Calls that draw random numbers whatever mode the model is in."""

_CLASS_FUNCTIONS = frozenset({"cross_entropy", "nll_loss"})


@dataclass(eq=False)
class HeardLoss:
    """One call of a loss function of torch.

    Args:
        op: The record of it.
        function: ``"cross_entropy"`` …
        scores: What the model gives it, detached.
        target: What that is compared with, detached.
        options: The other arguments, by parameter.
        value: What it returned, detached.
    """

    op: Op
    function: str
    scores: Tensor
    target: Tensor
    options: dict[str, Any]
    value: Tensor

    @property
    def reduction(self) -> str:
        """``"mean"``, ``"sum"``, ``"none"`` … (``size_average`` and ``reduce`` are older spellings)."""
        average, reduce = self.options.get("size_average"), self.options.get("reduce")
        if average is None and reduce is None:
            return str(self.options.get("reduction", ""))
        if reduce is False:
            return "none"
        return "sum" if average is False else "mean"

    @property
    def is_classes(self) -> bool:
        """Whether scores have a class dimension and targets hold class indices."""
        return self.function in _CLASS_FUNCTIONS and not self.target.is_floating_point()


@dataclass(frozen=True)
class MeanOver:
    """What a loss was a mean over.

    Args:
        function: The call that took the mean: ``"cross_entropy"``, ``"div"``, ``"mean"``.
        line: The user's line.
        count: How many values it was taken over, a scalar on the loss's device.
        masked: Whether values were left out.
    """

    function: str
    line: str
    count: Tensor
    masked: Tensor


class LossTap:
    """A :class:`Trace` that keeps loss calls with their tensors; a context manager.

    >>> with LossTap() as tap:
    ...     loss = torch.nn.functional.mse_loss(torch.zeros(2), torch.ones(2))
    >>> tap.returned(loss).function, tap.returned(loss).reduction
    ('mse_loss', 'mean')
    """

    def __init__(self, root: nn.Module | None = None, also: Mapping[str, Callable[[Call], None]] | None = None) -> None:
        self.heard: list[HeardLoss] = []
        self._divisors: dict[int, Tensor] = {}
        self._selections: set[int] = set()
        handlers = dict.fromkeys(LOSS_FUNCTIONS, self._loss)
        handlers |= {"div": self._division, "getitem": self._selection, "masked_select": self._selection}
        self.trace = Trace(root, {**handlers, **(also or {})})

    def __enter__(self) -> LossTap:
        self.trace.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.trace.__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]

    def source(self, loss: Tensor) -> Op | None:
        """The call that computed a value, past those that only convert it or average one number."""
        op = self.trace.origin(self.trace.producer(loss), THROUGH)
        while op is not None and op.name in ("mean", "sum") and op.inputs and math.prod(op.shapes[0]) == 1:
            op = self.trace.origin(op.inputs[0], THROUGH)
        return op

    def returned(self, loss: Tensor) -> HeardLoss | None:
        """The loss call whose value this is, unchanged."""
        op = self.source(loss)
        return next((item for item in self.heard if item.op is op), None)

    def reaching(self, loss: Tensor) -> list[HeardLoss]:
        """The loss calls that a value depends on."""
        above = {op.index for op in self.trace.ancestors(self.trace.producer(loss))}
        return [item for item in self.heard if item.op.index in above]

    def draws(self) -> bool:
        """Whether random numbers were drawn."""
        return any(op.name in RANDOM for op in self.trace.ops)

    def mean_over(self, loss: Tensor) -> MeanOver | None:
        """What a loss is a mean over; ``None`` where it is not one value's mean, or is a mean over all elements.

        Recognised are the losses on class indices, averaged; a sum divided by a count that is a tensor; and the
        mean of what a boolean mask selects.
        """
        op = self.source(loss)
        if op is None:
            return None
        call = self.returned(loss)
        if call is not None:
            return _mean_over_classes(call) if call.is_classes and call.reduction == "mean" else None
        if op.name == "div" and op.index in self._divisors and op.inputs:
            over = self.trace.origin(op.inputs[0], THROUGH)
            summed = next((item for item in self.heard if item.op is over), None)
            if over is not None and (over.name == "sum" or (summed is not None and summed.reduction == "sum")):
                count = self._divisors[op.index]
                return MeanOver("div", op.line, count, torch.ones_like(count, dtype=torch.bool))
        if op.name == "mean" and op.shapes and any(item.index in self._selections for item in self.trace.ancestors(op)):
            count = torch.tensor(float(math.prod(op.shapes[0])), device=loss.device)
            return MeanOver("mean", op.line, count, torch.ones_like(count, dtype=torch.bool))
        return None

    def _loss(self, call: Call) -> None:
        given = bound(call.function, call.arguments, call.keywords)
        scores, target = (given.pop(name, None) for name in LOSS_FUNCTIONS[call.op.name])
        if all(isinstance(item, Tensor) for item in (scores, target, call.output)):
            value = call.output.detach()
            self.heard.append(HeardLoss(call.op, call.op.name, scores.detach(), target.detach(), given, value))

    def _division(self, call: Call) -> None:
        divisor = call.argument(1, "other")
        scalars = isinstance(call.output, Tensor) and call.output.numel() == 1
        if scalars and isinstance(divisor, Tensor) and divisor.numel() == 1:
            self._divisors[call.op.index] = divisor.detach().clone().reshape(()).float()

    def _selection(self, call: Call) -> None:
        keys = call.argument(1, "mask")
        for key in keys if isinstance(keys, tuple) else (keys,):
            if isinstance(key, Tensor) and key.dtype == torch.bool:
                self._selections.add(call.op.index)


def _mean_over_classes(call: HeardLoss) -> MeanOver:
    kept = call.target != call.options.get("ignore_index", -100)
    return MeanOver(call.function, call.op.line, kept.sum().float(), ~kept.all())


def scalar_terms(op: Op | None) -> Iterator[Op]:
    """The values that a loss was added up from: itself, where it is no sum of scalars.

    >>> with LossTap() as tap:
    ...     x = torch.ones(3)
    ...     loss = x.sum() + 0.5 * x.pow(2).sum()
    >>> [op.name for op in scalar_terms(tap.source(loss))]
    ['sum', 'sum']
    """
    if op is None:
        return
    inputs = [item for item in op.inputs if item is not None and math.prod(item.shape) == 1]
    if op.name in ("add", "sub", "rsub") and inputs and math.prod(op.shape) == 1:
        for item in inputs:
            yield from scalar_terms(item)
    elif inputs and (op.name in THROUGH or (op.name in ("mul", "neg") and len(inputs) == math.prod(op.shape) == 1)):
        yield from scalar_terms(inputs[0])
    else:
        yield op
