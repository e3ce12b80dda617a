"""LossTrace: a trace that also knows what each tensor depends on, and keeps what a loss may be made of."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.loss_seen import Kept, Seen, candidate
from lightning_debug.probes.loss_vocabulary import LOSS_FUNCTIONS, dimension, limits
from lightning_debug.probes.trace import Call, Op, Trace

MOST_READ = 64
"""How many calls of torch's loss functions are read in one step."""
MOST_KEPT = 96
"""How many of the latest calls that a hand-written loss may be made of are kept until the step ends."""
MOST_LARGE = 4
"""How many of these may have operands larger than ``LARGE``."""
LARGE = 2**18


@dataclass(frozen=True)
class Note:
    """What an :class:`Op` leaves open.

    Args:
        fields: Indices of the batch fields it depends on.
        model: Whether it depends on a parameter.
        gradient: Whether a gradient flows through it.
        layer: Whether parameters are among its arguments.
        sources: The same of each of its tensor arguments.
        dim: The dimension it works along, counted from the front.
        amount: Its one number, where its other argument is the one tensor.
        lowest: The least value it can give.
        highest: The greatest value.
        widens: Whether it is an indexing that adds a dimension (``x[:, None]``).
    """

    fields: frozenset[int] = frozenset()
    model: bool = False
    gradient: bool = False
    layer: bool = False
    sources: tuple[Note, ...] = ()
    dim: int | None = None
    amount: float | None = None
    lowest: float | None = None
    highest: float | None = None
    widens: bool = False


_NOTHING = Note()

MOST_BEHIND = 64
"""Calls looked at behind the last layer."""


@functools.lru_cache(maxsize=256)
def _brief(fields: frozenset[int], model: bool, gradient: bool) -> Note:
    return Note(fields, model, gradient)


class LossTrace(Trace):
    """Records one step.

    Args:
        root: The model.
        batch: What the step is given.

    Attributes:
        seen: The calls that predictions may become a loss in, in the order in which they ran.
        unread: How many more there were.
        backward: What was called backward on: its value, and the call that made it.
        errors: What went wrong while recording; the step itself is never disturbed.
    """

    def __init__(self, root: nn.Module, batch: Any) -> None:
        super().__init__(root, {"*": self._guarded})
        fields = list(batch_fields(batch))
        self.field_names = [name for name, _ in fields]
        self.field_tensors = [tensor for _, tensor in fields]  # kept alive, so that an id stays theirs
        self._field_ids = {id(tensor): index for index, tensor in enumerate(self.field_tensors)}
        self.notes: dict[int, Note] = {}
        self.seen: list[Seen] = []
        self.unread = 0
        self.backward: list[tuple[Tensor, Op | None]] = []
        self.errors: list[Exception] = []
        self._read = 0
        self._kept: dict[bool, deque[Seen]] = {False: deque(), True: deque()}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Records the call; of a ``backward``, where it starts."""
        if getattr(func, "__name__", "") == "backward" and args and isinstance(args[0], Tensor):
            self.backward.append((args[0].detach(), self.producer(args[0])))
        return super().__torch_function__(func, types, args, kwargs)

    def note(self, op: Op | None) -> Note:
        """The note of a call; an empty one of ``None``."""
        return _NOTHING if op is None else self.notes.get(op.index, _NOTHING)

    def depends(self, tensor: Tensor, made: Op | None = None) -> Note:
        """What a tensor depends on.

        Args:
            tensor: The tensor.
            made: The call that made it, if that is known already.
        """
        made = made or self.producer(tensor)
        return self._raw(tensor) if made is None else self.note(made)

    def _raw(self, tensor: Tensor) -> Note:
        """What a tensor depends on that no recorded call made."""
        index = self._field_ids.get(id(tensor))
        if index is not None:
            return Note(fields=frozenset({index}), gradient=tensor.requires_grad)
        own = isinstance(tensor, nn.Parameter) or tensor.requires_grad
        return Note(model=own, gradient=tensor.requires_grad, layer=own)

    def keep(self, tensor: Any, made: Op | None = None, dim: int | None = None, ignore: int | None = None) -> Kept:
        """An operand, to be read now or when the step is over."""
        note = self.depends(tensor, made)
        index = self._field_ids.get(id(tensor))
        known = {
            "field": "" if index is None else self.field_names[index],
            "from_batch": bool(note.fields) and not note.model,
            "from_model": note.model,
            "joined": self._joined(made or self.producer(tensor)),
            "carries_gradient": note.gradient or tensor.requires_grad,  # by an autograd.Function, after what it calls
        }
        return Kept(tensor.detach(), made or self.producer(tensor), dim, ignore, known)

    def _joined(self, made: Op | None) -> tuple[str, ...]:
        """The batch fields that meet a tensor behind the last layer on its way."""
        met: set[int] = set()
        todo: list[Op | None] = [made]
        seen: set[int] = set()
        while todo and len(seen) < MOST_BEHIND:
            op = todo.pop()
            if op is None or op.index in seen or self.note(op).layer:
                continue
            seen.add(op.index)
            met.update(*[source.fields for source in self.note(op).sources if not source.model])
            todo += [source for source in op.inputs if source is not None and self.note(source).model]
        return tuple([self.field_names[index] for index in sorted(met)])

    def close(self) -> None:
        """Reads what was kept. Call it outside the mode, when the step is over."""
        with torch.no_grad():
            self.seen = [seen for seen in self.seen if seen.read()]  # less what was changed in place since

    def release(self) -> None:
        """Lets go of every tensor; nothing can be asked afterwards."""
        self._handlers.clear()  # they refer back to this trace
        self._tracked.clear()
        self._field_ids.clear()
        self.field_tensors.clear()
        self.seen.clear()
        self.backward.clear()
        for kept in self._kept.values():
            kept.clear()

    def _guarded(self, call: Call) -> None:
        try:
            self.notes[call.op.index] = self._annotate(call)
            seen = candidate(self, call)
            if seen is not None:
                self._add(seen)
        except Exception as error:  # the step is the user's: nothing of ours may end it
            if len(self.errors) < 3:
                self.errors.append(error)

    def _annotate(self, call: Call) -> Note:
        op, given = call.op, call.given
        sources = [
            self._raw(item) if source is None else self.note(source)
            for item, source in zip(given, op.inputs, strict=True)
        ]
        outputs = call.made or (given[:1] if op.name == "setitem" else [])
        numbers = [item for item in call.arguments if isinstance(item, (int, float)) and not isinstance(item, bool)]
        lowest, highest = limits(op.name, call.argument)
        index = call.argument(1, "index", ()) if op.name == "getitem" else ()
        fields: frozenset[int] = frozenset()
        model = layer = False
        for item, source in zip(sources, op.inputs, strict=True):
            fields |= item.fields
            model |= item.model
            layer |= item.layer and source is None
        return Note(
            fields=fields,
            model=model,
            gradient=any(item.requires_grad for item in outputs),
            layer=layer,
            sources=tuple([_brief(item.fields, item.model, item.gradient) for item in sources]),
            dim=dimension(op.name, call.arguments, call.keywords, len(op.shapes[0]) if op.shapes else 0),
            amount=float(numbers[0]) if len(numbers) == 1 and len(given) == 1 else None,
            lowest=lowest,
            highest=highest,
            widens=index is None or (isinstance(index, tuple) and any(item is None for item in index)),
        )

    def _add(self, seen: Seen) -> None:
        if seen.kind in LOSS_FUNCTIONS or seen.kind in ("log_softmax", "logsigmoid"):
            if self._read >= MOST_READ:
                self.unread += 1
                return
            self._read += 1
            seen.read()
        else:
            large = seen.size > LARGE
            kept = self._kept[large]
            kept.append(seen)
            if len(kept) > (MOST_LARGE if large else MOST_KEPT):
                self.seen.remove(kept.popleft())
        self.seen.append(seen)
