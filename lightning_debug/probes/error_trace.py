"""A step run again under watch: the call that raised, with its operands, and the table of shapes up to there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.errors import ErrorOperand, ShapeRow
from lightning_debug.probes.error_operands import Names, operand, plain_arguments
from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.source import is_library
from lightning_debug.probes.trace import Trace, tensors
from lightning_debug.probes.vocabulary import canonical, name_of

MOST_ROWS = 2000
_SIGNATURES = {
    "linear": ("input", "weight", "bias"),
    "cross_entropy": ("input", "target", "weight"),
    "nll_loss": ("input", "target", "weight"),
    "embedding": ("input", "weight"),
}


@dataclass
class Refusal:
    """The call that raised.

    Args:
        error: What it raised.
        operation: Its name.
        operands: The tensors it was given.
        arguments: Its other arguments.
        module: Path of the module it ran in.
        module_type: Class name of that module.
        line: The user's line.
    """

    error: BaseException
    operation: str
    operands: tuple[ErrorOperand, ...] = ()
    arguments: dict[str, str] = field(default_factory=dict)
    module: str = ""
    module_type: str = ""
    line: str = ""


class OutOfRange(IndexError):
    """Raised in place of a device-side assert, which would take the device with it."""


class StepTrace(Trace):
    """Records the rows of a step, and the call that raised.

    Args:
        root: The model.
        fields: Names and tensors of the batch.
        check_indices: Whether to look at class and vocabulary indices before they reach a kernel that asserts.
    """

    def __init__(
        self, root: nn.Module | None, fields: list[tuple[str, Tensor]] | None = None, *, check_indices: bool = False
    ) -> None:
        super().__init__(root)
        self.refusal: Refusal | None = None
        self.rows: list[ShapeRow] = []
        self._names = Names(root, fields or [])
        self._check = check_indices
        self._library = {
            name: type(module).__module__.startswith("torch.nn")
            for name, module in (root.named_modules() if root is not None else ())
        }
        self._parameters = {id(item) for item in root.parameters()} if root is not None else set()
        self._parameters |= {id(item) for item in root.buffers()} if root is not None else set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs the call; notes it when it raises."""
        recording, before = torch.is_grad_enabled(), len(self.ops)
        keywords = kwargs or {}
        given = [item for item in tensors((args, keywords)) if id(item) not in self._parameters]
        shapes = tuple(plain_shape(item) for item in given)
        asked = [item.requires_grad for item in tensors((args, keywords))]
        try:
            if self._check:
                _check_indices(canonical(name_of(func)), args, keywords)
            output = super().__torch_function__(func, types, args, kwargs)
        except BaseException as error:
            if self.refusal is None or self.refusal.error is not error:
                self.refusal = self._refused(error, func, args, keywords)
            raise
        if len(self.ops) > before and len(self.rows) < MOST_ROWS:
            raw, op = name_of(func), self.ops[-1]
            in_place = (raw.endswith("_") and not raw.endswith("__")) or raw in _IN_PLACE
            in_place = in_place or keywords.get("inplace") is True
            made = next(tensors(args if in_place else output), None)
            self.rows.append(
                ShapeRow(
                    module=op.module,
                    module_type=op.module_type,
                    operation=op.name,
                    line=op.line,
                    inputs=shapes,
                    output=plain_shape(made) if made is not None else (),
                    grouped=self._library.get(op.module, False) and bool(op.module),
                    gradient=made is not None and made.requires_grad,
                    given_gradient=any(asked),
                    recording=recording,
                    in_place=in_place,
                )
            )
        return output

    def graph_notes(self, loss: Any) -> dict[str, str]:
        """Where a loss lost its graph, for one that has none; its shape, for one that is no scalar."""
        if not isinstance(loss, Tensor):
            return {}
        if loss.requires_grad:
            return {"loss_shape": str(plain_shape(loss))} if loss.numel() != 1 else {}
        rows = {op.index: row for op, row in zip(self.ops, self.rows, strict=False)}
        above = [rows[op.index] for op in self.ancestors(self.producer(loss)) if op.index in rows]
        for row in above:
            if row.given_gradient and not row.gradient:
                how = "operation" if row.recording else "no_grad"
                return {"lost_how": how, "lost_by": row.operation, "lost_at": row.line}
        if not any(row.gradient or row.given_gradient for row in self.rows):
            return {"lost_how": "frozen"}
        last = next(iter(above), None)
        numbers = [row for row in self.rows if row.operation in _TO_NUMBERS and row.given_gradient]
        named = numbers[-1] if numbers else last
        if named is None:
            return {"lost_how": "rebuilt"}
        return {"lost_how": "rebuilt", "lost_by": named.operation, "lost_at": named.line}

    def _refused(
        self, error: BaseException, func: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Refusal:
        frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - the documented way to the stack
        name = canonical(name_of(func))
        module, module_type, line = self._where(frame)
        while frame is not None and is_library(frame.f_code.co_filename):
            frame = frame.f_back
        local = dict(frame.f_locals) if frame is not None else {}
        found = []
        labels = _SIGNATURES.get(name, ())
        for key, value in [*enumerate(args), *keywords.items()]:
            for item in tensors(value):
                label = labels[key] if isinstance(key, int) and key < len(labels) else str(key)
                op = self.producer(item)
                found.append(operand(item, *self._names.of(item, local, op), argument=label, op=op))
        told = plain_arguments(args, keywords)
        return Refusal(error, name, tuple(found), told, module, module_type, line)


_TO_NUMBERS = frozenset("item tolist numpy __array__ __float__ __int__".split())
_IN_PLACE = frozenset("__setitem__ __iadd__ __isub__ __imul__ __itruediv__ __ipow__ __iand__ __ior__".split())


def _check_indices(name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    def argument(position: int, key: str) -> Any:
        return keywords[key] if key in keywords else args[position] if len(args) > position else None

    if name == "embedding":
        index, weight = argument(0, "input"), argument(1, "weight")
        if isinstance(index, Tensor) and isinstance(weight, Tensor):
            _within(index, 0, weight.shape[0], None)
    elif name in ("cross_entropy", "nll_loss"):
        scores, labels = argument(0, "input"), argument(1, "target")
        if (
            isinstance(scores, Tensor)
            and isinstance(labels, Tensor)
            and scores.ndim
            and not labels.dtype.is_floating_point
        ):
            ignored = keywords.get("ignore_index", args[4] if len(args) > 4 else -100)
            _within(labels, 0, scores.shape[1 if scores.ndim > 1 else 0], ignored)


def _within(index: Tensor, least: int, size: int, ignored: Any) -> None:
    if index.dtype.is_floating_point or not index.numel() or index.device.type == "meta":
        return
    bad = (index < least) | (index >= size)
    if ignored is not None:
        bad &= index != ignored
    if bool(bad.any()):
        raise OutOfRange(f"index out of range: {int(index[bad][0])} is not in 0..{size - 1}")


def grouped(rows: list[ShapeRow]) -> tuple[ShapeRow, ...]:
    """One row for each call of a module of torch's; operations that change nothing of interest left out."""
    result: list[ShapeRow] = []
    for row in rows:
        last = result[-1] if result else None
        if (
            row.grouped
            and last is not None
            and last.grouped
            and last.module == row.module
            and row.inputs != last.inputs
        ):
            result[-1] = replace(
                last,
                operation=row.operation,
                inputs=last.inputs or row.inputs,  # batch-norm counts its batches first
                given=last.given or row.given,
                output=row.output,
                batch=row.batch,
                gradient=row.gradient,
            )
        elif row.grouped or row.inputs:
            result.append(row)
    return tuple(result)


def mark_batch(rows: list[ShapeRow], fewer: list[ShapeRow], size: int, less: int) -> bool:
    """Marks the dimensions of ``rows`` that shrink when the batch does; whether the two runs could be compared."""
    same = 0
    for index, (row, other) in enumerate(zip(rows, fewer, strict=False)):
        if row.operation != other.operation or len(row.output) != len(other.output):
            break
        if len(row.inputs) != len(other.inputs) or any(
            len(one) != len(two) for one, two in zip(row.inputs, other.inputs, strict=True)
        ):
            break
        given = tuple(_marks(one, two, size, less) for one, two in zip(row.inputs, other.inputs, strict=True))
        rows[index] = replace(row, batch=_marks(row.output, other.output, size, less), given=given)
        same += 1
    return same > 0


def _marks(one: tuple[int, ...], two: tuple[int, ...], size: int, less: int) -> tuple[int, ...]:
    return tuple(_times(first, second, size, less) for first, second in zip(one, two, strict=True))


def _times(one: int, two: int, size: int, less: int) -> int:
    difference, step = one - two, size - less
    return difference // step if difference > 0 and difference % step == 0 else 0


def guess_batch(rows: list[ShapeRow], size: int | None) -> None:
    """Marks the first dimension that is as long as the batch, where runs could not be compared."""
    if not size:
        return
    for index, row in enumerate(rows):
        if row.output and size > 1:
            first = next((at for at, length in enumerate(row.output) if length == size), None)
            marks = tuple(int(at == first) for at in range(len(row.output)))
            rows[index] = replace(row, batch=marks)
