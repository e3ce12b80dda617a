"""A trace that notes each call whose output is not finite, and follows a bad value back to where it began."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.numbers import Operand, Origin
from lightning_debug.probes.nonfinite_backward import BackwardWatch
from lightning_debug.probes.nonfinite_tensors import severity
from lightning_debug.probes.operands import flat, numbers, operand
from lightning_debug.probes.trace import Call, Op, Trace
from lightning_debug.probes.value_flow import CARRIES, FRESH, HARMLESS, ON_PURPOSE, filled, read, writes
from lightning_debug.probes.vocabulary import RESHAPES, canonical

NAN, INFINITE = 2, 1


class Found(BaseException):
    """Ends a re-run once the origin is known; no ``except Exception`` of the user's catches it."""


@dataclass
class Input:
    """One tensor argument of a call: how bad it is, what made it, or which leaf it is."""

    tensor: Tensor
    severity: int
    op: Op | None
    leaf: tuple[str, str] | None


@dataclass
class Bad:
    """A call whose output is not finite; ``origin`` describes it where it may be to blame."""

    op: Op
    severity: int
    inputs: list[tuple[int, Op | None, tuple[str, str] | None]]
    origin: Origin


@dataclass
class Search:
    """What a re-run showed.

    Args:
        origin: Where it began, or ``None``.
        loss: The loss of the re-run; ``None`` when it had none.
        gradients: Parameters whose gradient is not finite, in backward order.
        total: How many parameters got a gradient.
        complete: Whether the re-run came to the end of a backward pass, or to a loss that is not finite.
        bad_loss: Whether the loss is not finite.
        calls: How many calls were looked at.
        fresh: How many of them gave memory that nothing was written to.
    """

    origin: Origin | None = None
    loss: float | None = None
    gradients: tuple[str, ...] = ()
    total: int = 0
    complete: bool = False
    bad_loss: bool = False
    calls: int = 0
    fresh: int = 0

    @property
    def finite(self) -> bool:
        """Whether the re-run went through with finite loss and gradients."""
        return self.complete and not self.bad_loss and not self.gradients


class Finder(Trace):
    """The trace of one re-run.

    Args:
        root: The model.
        leaves: Kind and name, by identity, of the tensors that were there before the step.
        fresh: What memory that nothing was written to holds in this run.
    """

    def __init__(self, root: nn.Module, leaves: Mapping[int, tuple[str, str]], fresh: float = HARMLESS) -> None:
        super().__init__(root, {"*": self._look})
        self.found = Search()
        self._fresh = fresh
        self._written: dict[int, Op] = {}
        self._bad: dict[int, Bad] = {}
        self._leaves = leaves
        self._names = {id(item): name for name, item in root.named_parameters()}
        self._known: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}
        self._before: list[Input] = []
        self._owners: dict[Any, Call] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the call; a backward pass is watched node by node."""
        keywords = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "backward" and args and isinstance(args[0], Tensor):
            return self.backward(args[0], lambda: func(*args, **keywords))
        with torch.no_grad():
            self._before = [self._input(item) for item in flat(read(name, args, keywords))]
            target = args[0] if args and writes(name, keywords) else None
            for item in self._before:
                if item.tensor is target:  # what is overwritten is looked at as it was
                    item.tensor = item.tensor.detach().clone()
        if canonical(name) in FRESH:
            self.found.fresh += 1
            func = filled(func, self._fresh)
        return super().__torch_function__(func, types, args, kwargs)

    def backward(self, loss: Tensor, run: Callable[[], Any]) -> Any:
        """Looks at the loss, then runs its backward pass with every node watched.

        Raises:
            Found: If the loss or a gradient is not finite.
        """
        self.judge(loss)
        watch = BackwardWatch(self._names)
        watch.install(loss)
        try:
            result = run()
        finally:
            watch.remove()
        self.found.gradients, self.found.total, self.found.complete = tuple(watch.bad), watch.total, True
        if watch.bad:
            self.found.origin = watch.origin(self._owners, self._operand)
            raise Found
        return result

    @torch.no_grad()
    def judge(self, loss: Tensor) -> None:
        """Follows a loss that is not finite back to its origin.

        Raises:
            Found: If it is not finite.
        """
        if loss.numel() == 1:
            self.found.loss = float(loss.detach())
        if self._severity(loss):
            self.found.complete = self.found.bad_loss = True
            self.found.origin = self._follow(loss)
            raise Found

    def latest(self) -> Origin | None:
        """Where the last bad value began, for a step that raised."""
        if not self._bad:
            return None
        last = self._bad[max(self._bad)]
        return self._verdicts()[last.op.index][0] or last.origin

    def _input(self, tensor: Tensor) -> Input:
        level = self._severity(tensor)
        return Input(tensor, level, self._maker(tensor, level), self._leaves.get(id(tensor)))

    def _maker(self, tensor: Tensor, level: int) -> Op | None:
        """What made a tensor, or has made it bad since by writing to another view of its memory."""
        op = self.producer(tensor)
        if level and (op is None or op.index not in self._bad):
            return self._written.get(_memory(tensor), op)
        return op

    def _severity(self, tensor: Tensor) -> int:
        try:
            version = tensor._version  # noqa: SLF001 -- autograd's own way to see a change
        except RuntimeError:  # an inference tensor has none
            return severity(tensor)
        known = self._known.get(id(tensor))
        if known is not None and known[0]() is tensor and known[1] == version:
            return known[2]
        found = severity(tensor)
        self._known[id(tensor)] = (weakref.ref(tensor), version, found)
        return found

    def _look(self, call: Call) -> None:
        outputs = flat(call.output)
        if call.op.name == "setitem":
            outputs = flat(call.arguments[:1])
        self._own(call, outputs)
        worst = max(map(self._severity, outputs), default=0)
        if not worst:
            return
        broken = next(item for item in outputs if self._severity(item) == worst)
        if writes(getattr(call.function, "__name__", ""), call.keywords) and (memory := _memory(broken)):
            self._written[memory] = call.op
        origin = Origin(
            kind="forward",
            operation=call.op.name,
            module=call.op.module,
            module_type=call.op.module_type,
            line=call.op.line,
        )
        if worst == INFINITE or all(item.severity < worst for item in self._before):  # else it is not to blame
            origin = dataclasses.replace(
                origin,
                operands=tuple(self._operand(item.tensor, item.op, item.leaf) for item in self._before[:6]),
                output=operand(broken),
                numbers=numbers(call.op.name, call.arguments, call.keywords, broken),
            )
        inputs = [(item.severity, item.op, item.leaf) for item in self._before]
        self._bad[call.op.index] = Bad(call.op, worst, inputs, origin)

    def _operand(self, tensor: Tensor, op: Op | None, leaf: tuple[str, str] | None = None) -> Operand:
        leaf = leaf or self._leaves.get(id(tensor))
        if leaf is not None:
            return operand(tensor, leaf[1], leaf[0])
        while op is not None and op.name in RESHAPES and op.inputs and op.inputs[0] is not None:
            op = op.inputs[0]
        source = "" if op is None else f"{op.name} ({op.module})" if op.module else op.name
        return operand(tensor, source)

    def _own(self, call: Call, outputs: list[Tensor]) -> None:
        """Notes which nodes of the graph this call has built."""
        stack = [item.grad_fn for item in outputs if item.grad_fn is not None]
        while stack:
            node = stack.pop()
            if node not in self._owners:
                self._owners[node] = call
                stack += [item for item, _ in node.next_functions if item is not None]

    def _follow(self, tensor: Tensor) -> Origin | None:
        """From a tensor that is not finite to what made it so."""
        op, leaf = self._maker(tensor, self._severity(tensor)), self._leaves.get(id(tensor))
        if leaf is not None and op is None:
            return Origin(kind=leaf[0], name=leaf[1])
        if op is None or op.index not in self._bad:
            return None
        origin, masked = self._verdicts()[op.index]
        if origin is None:  # infinite values written on purpose came all the way: the last real call lets them
            origin = dataclasses.replace(self._consumer(self._bad[op.index]).origin, masked=masked)
        return origin

    def _verdicts(self) -> dict[int, tuple[Origin | None, tuple[str, ...]]]:
        verdicts: dict[int, tuple[Origin | None, tuple[str, ...]]] = {}
        for index in sorted(self._bad):  # what a call was given was made by earlier calls
            verdicts[index] = self._verdict(self._bad[index], verdicts)
        return verdicts

    def _verdict(
        self, item: Bad, verdicts: Mapping[int, tuple[Origin | None, tuple[str, ...]]]
    ) -> tuple[Origin | None, tuple[str, ...]]:
        """The origin of what a call put out (``None``: infinite values written on purpose), and who wrote those."""
        worst = max((level for level, _, _ in item.inputs), default=0)
        if not worst:
            written = item.severity == INFINITE and item.op.name in ON_PURPOSE
            return (None, (item.op.name,)) if written else (item.origin, ())
        masked: list[str] = []
        for level, op, leaf in item.inputs:
            if level < min(item.severity, worst):
                continue
            below = verdicts.get(op.index) if op is not None else None
            if below is not None:
                if below[0] is not None:
                    return below
                masked += below[1]
            elif leaf is not None and (level == NAN or leaf[0] == "parameter"):
                return Origin(kind=leaf[0], name=leaf[1]), ()
            elif level == NAN:
                return Origin(kind="constant", operation=item.op.name, module=item.op.module, line=item.op.line), ()
            else:
                masked.append(leaf[1] if leaf is not None else "constant")
        names = tuple(dict.fromkeys(masked))
        if item.severity == NAN and worst == INFINITE:
            return dataclasses.replace(item.origin, masked=names), ()
        return None, names

    def _consumer(self, item: Bad) -> Bad:
        while item.op.name in CARRIES | RESHAPES:
            below = [self._bad.get(op.index) for level, op, _ in item.inputs if level and op is not None]
            if len(below) != 1 or below[0] is None or below[0].op.name in ON_PURPOSE:
                break
            item = below[0]
        return item


def _memory(tensor: Tensor) -> int:
    """What the views of one memory have in common; 0 for a tensor that has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # a sparse tensor, or a wrapper around others
        return 0
