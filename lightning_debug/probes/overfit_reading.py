"""Reads one step: the loss functions its loss is made of, what they cost and must cost, where gradients end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.loss import LossCall
from lightning_debug.evidence.overfit import OverfitCall, OverfitField
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.loss_graph import loss_graph
from lightning_debug.probes.loss_seen import Seen
from lightning_debug.probes.loss_tap import RANDOM, scalar_terms
from lightning_debug.probes.loss_trace import LossTrace
from lightning_debug.probes.loss_vocabulary import LOSS_FUNCTIONS, THROUGH
from lightning_debug.probes.overfit_floor import cost
from lightning_debug.probes.plain_shape import plain_shape
from lightning_debug.probes.trace import Op, tensors

AVERAGING = THROUGH | {"mean", "sum", "nanmean", "nansum", "div", "mul"}
"""Calls that stand between a loss that is not reduced and the one number of it."""
ALIKE = 1e-6
"""Relative difference up to which two examples' values are the same."""
LARGE = 2**24


class FitTrace(LossTrace):
    """A :class:`LossTrace` that keeps the operands of loss functions until it is read."""

    def __init__(self, root: Any, batch: Any) -> None:
        super().__init__(root, batch)
        self._operands: dict[int, tuple[Seen, Tensor, Tensor]] = {}

    def _add(self, seen: Seen) -> None:
        scores, target = seen.scores.tensor, None if seen.target is None else seen.target.tensor
        wanted = seen.kind in LOSS_FUNCTIONS or seen.kind == "difference"
        if wanted and scores is not None and target is not None and scores.numel() + target.numel() <= LARGE:
            self._operands[id(seen)] = seen, scores.clone(), target.clone()
        super()._add(seen)

    def draws(self) -> bool:
        """Whether random numbers were drawn whatever mode the model is in."""
        return any(op.name in RANDOM for op in self.ops)

    def terms(self, loss: Tensor) -> int:
        """How many summands a loss has."""
        return len(list(scalar_terms(self.producer(loss))))

    def calls(self, loss: Tensor, samples: int | None) -> tuple[OverfitCall, ...]:
        """The loss functions that a loss is made of. Ends the recording.

        Args:
            loss: What the step returned.
            samples: How many examples the batch holds, where that is known.
        """
        made = self.producer(loss)
        graph = loss_graph(self, loss)
        summands = {op.index for term in scalar_terms(made) for op in self._below(term)}
        by_operand = {id(seen.scores.operand): seen for seen in self.seen}
        found = []
        for call in graph.reaching:
            seen = by_operand.get(id(call.scores))
            if seen is not None and call.scores.from_model:
                held = self._operands.get(id(seen))
                found.append(self._call(call, seen, held, seen.op.index in summands, samples))
        return tuple(found)

    def release(self) -> None:
        """Lets go of every tensor."""
        super().release()
        self._operands.clear()

    def _below(self, term: Op) -> Iterator[Op]:
        """A summand's call, and those before it that it only averages."""
        here: Op | None = term
        while here is not None:
            yield here
            here = here.inputs[0] if here.name in AVERAGING | {"pow", "square", "abs"} and here.inputs else None

    def _call(
        self, call: LossCall, seen: Seen, held: tuple[Seen, Tensor, Tensor] | None, additive: bool, samples: int | None
    ) -> OverfitCall:
        scores, target = held[1:] if held is not None else (None, None)
        paid = None
        if scores is not None and target is not None:
            paid = cost(
                call.function, scores, target, smoothing=call.label_smoothing, ignore=call.ignore_index
            )  # fmt: skip
        carries = call.scores.carries_gradient or bool(call.target is not None and call.target.carries_gradient)
        stop = None if carries else self._stop(seen.scores.made)
        near = call.origin[0] if call.origin else None
        return OverfitCall(
            function=call.function,
            line=call.line,
            value=paid.value if paid is not None else call.value or 0.0,
            floor=paid.floor if paid is not None else None,
            uninformed=paid.uninformed if paid is not None else None,
            carries_gradient=carries,
            additive=additive,
            spread=None if scores is None else spread(scores, samples),
            targets_differ=target is not None and (spread(target, samples) or 0.0) > ALIKE,
            lowest=call.scores.minimum,
            highest=call.scores.maximum,
            target_lowest=None if call.target is None else call.target.minimum,
            target_highest=None if call.target is None else call.target.maximum,
            shape=call.scores.shape,
            target_shape=() if call.target is None else call.target.shape,
            made_by="" if near is None else near.name,
            made_at="" if near is None else near.line,
            made_in="" if near is None else near.module,
            limits=(None, None) if near is None else (near.lowest, near.highest),
            fields=tuple(self.field_names[index] for index in sorted(self.note(seen.scores.made).fields)),
            stopped_by="" if stop is None else stop.name,
            stopped_at="" if stop is None else stop.line,
        )

    def _stop(self, made: Op | None) -> Op | None:
        """The call nearest to the loss that is given a gradient's way and passes none on."""
        for op in self.ancestors(made):
            note = self.note(op)
            if not note.gradient and any(source.gradient and source.model for source in note.sources):
                return op
        return None


def spread(values: Tensor, samples: int | None) -> float | None:
    """How far the rows of different examples are apart at most, as a share of the largest value.

    >>> spread(torch.tensor([[1.0, 2.0], [1.0, 4.0]]), 2)
    0.5
    """
    if not samples or samples < 2 or not values.ndim or values.shape[0] % samples or not values.numel():
        return None
    rows = values.detach().reshape(samples, -1)
    rows = rows if rows.is_floating_point() else rows.to(torch.float64)
    rows = rows.double() if rows.device.type != "mps" else rows.float()
    largest = float(rows.abs().max())
    return float((rows - rows[:1]).abs().max()) / largest if largest else 0.0


@torch.no_grad()
def read_fields(batch: Any) -> Iterable[OverfitField]:
    """The fields of a batch that hold values for samples."""
    for name, tensor in batch_fields(batch):
        if not tensor.ndim or not tensor.numel() or tensor.layout is not torch.strided or tensor.is_complex():
            continue
        values = tensor.detach()
        finite = bool(torch.isfinite(values).all()) if values.is_floating_point() else True
        yield OverfitField(
            name=name,
            shape=plain_shape(values),
            share_zero=float((values == 0).float().mean()),
            finite=finite,
            alike=len(values) > 1 and bool((values == values[:1]).all()),
        )


class Lost:
    """A hook for all modules: the first one whose output is alike for all examples though its input is not.

    Args:
        names: Paths of modules, by identity.
        samples: How many examples there are.
    """

    def __init__(self, names: dict[int, str], samples: int) -> None:
        self.path, self.kind = "", ""
        self._names, self._samples, self._later = names, samples, False

    def __call__(self, module: torch.nn.Module, given: Any, output: Any) -> None:
        """Called by torch after each module."""
        if id(module) not in self._names or next(module.children(), None) is not None:
            return
        before, after = next(tensors(given), None), next(tensors(output), None)
        if before is None or after is None:
            return
        apart = [spread(item, self._samples) if item.is_floating_point() else None for item in (before, after)]
        ids = spread(before, self._samples) if not before.is_floating_point() else None
        came, left = apart[0] if ids is None else ids, apart[1]
        if came is None or left is None:
            return
        if came > ALIKE >= left and not self.path:
            self.path, self.kind = self._names[id(module)], type(module).__name__
        elif left > ALIKE and self.path and came > ALIKE:
            self.path = self.kind = ""  # what follows tells the examples apart: another way led past
