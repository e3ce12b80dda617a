"""Watches a backward pass node by node for the first gradient that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.numbers import Operand, Origin
from lightning_debug.probes.nonfinite_tensors import severity
from lightning_debug.probes.operands import flat, numbers, operand
from lightning_debug.probes.trace import Call, Op

Gradients = tuple[Tensor | None, ...]


class BackwardWatch:
    """Hooks on every node of a graph, for one backward pass.

    Attributes:
        bad: Parameters whose gradient is not finite, in the order in which they arrive.
        total: How many parameters got a gradient.

    Args:
        names: Parameters' names by identity.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.bad: list[str] = []
        self.total = 0
        self._names = names
        self._first: tuple[Any, Operand, float | None] | None = None
        self._handles: list[Any] = []

    def install(self, loss: Tensor) -> None:
        """Puts the hooks in place."""
        stack, seen = [loss.grad_fn] if loss.grad_fn is not None else [], set()
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            variable = getattr(node, "variable", None)
            if isinstance(variable, Tensor):
                self._handles.append(node.register_prehook(self._arrival(self._names.get(id(variable), ""))))
            else:
                self._handles.append(node.register_hook(self._passage(node)))
            stack += [item for item, _ in node.next_functions if item is not None]

    def remove(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _arrival(self, name: str) -> Callable[[Gradients], None]:
        def look(incoming: Gradients) -> None:
            if name:
                self.total += 1
                if name not in self.bad and any(severity(item) for item in incoming if item is not None):
                    self.bad.append(name)

        return look

    def _passage(self, node: Any) -> Callable[[Gradients, Gradients], None]:
        def look(outgoing: Gradients, incoming: Gradients) -> None:
            arrived = [item for item in incoming if item is not None]
            if self._first is not None or any(map(severity, arrived)):
                return
            broken = next((item for item in outgoing if item is not None and severity(item)), None)
            if broken is not None:
                largest = max((float(item.detach().abs().max()) for item in arrived if item.numel()), default=None)
                self._first = node, operand(broken), largest

        return look

    @torch.no_grad()
    def origin(self, owners: Mapping[Any, Call], describe: Callable[[Tensor, Op | None], Operand]) -> Origin | None:
        """The first node that made a gradient not finite from a finite one, as the call that built it.

        Args:
            owners: The call that built each node.
            describe: Makes an operand of a tensor and its producer.
        """
        if self._first is None:
            return None
        node, output, upstream = self._first
        call = owners.get(node)
        name = type(node).__name__.rstrip("0123456789").removesuffix("Backward")
        if call is None or isinstance(node, torch.autograd.function.BackwardCFunction):  # a Function of the user's
            line = call.op.line if call is not None else ""
            return Origin(kind="backward", name=name, operation=name, line=line, output=output, upstream=upstream)
        tensors = flat((call.arguments, dict(call.keywords)))
        producers = [*call.op.inputs, *[None] * len(tensors)]
        result = next(iter(flat(call.output)), None)
        return Origin(
            kind="backward",
            name=name,
            operation=call.op.name,
            module=call.op.module,
            module_type=call.op.module_type,
            line=call.op.line,
            operands=tuple(describe(item, op) for item, op in zip(tensors[:6], producers, strict=False)),
            output=output,
            result=operand(result) if result is not None else None,
            upstream=upstream,
            numbers=numbers(call.op.name, call.arguments, call.keywords, result),
        )
