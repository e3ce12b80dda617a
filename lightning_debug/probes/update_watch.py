"""Follows gradients and weights of chosen parameters through a few batches: arrival, step, change."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.optimization import GroupUpdate
from lightning_debug.probes import optimizer_steps
from lightning_debug.probes.optimizer_coverage import Held
from lightning_debug.probes.update_ratio import group_update

BUDGET = 2**26
"""Values copied at most of the weights: parameters beyond it are not compared."""

SAMPLES = 8
"""Parameters of each optimizer whose gradients are followed between steps."""

STAND_INS = 4
"""Others whose gradients are followed too, the first that are not zero: a net may begin with most of them zero."""

LARGEST = 2**21
"""Values of the largest gradient that is copied."""


@dataclass(eq=False)
class Track:
    """What was seen of one parameter.

    Args:
        held: The parameter and its place.
        batches: Batches in which a gradient arrived.
        nonzero: Whether one was not zero throughout.
        origin: Its values when it was first looked at; ``None`` beyond the budget, and once it is known to have moved.
        moved: Whether it is known to have changed since.
        sampled: Whether its gradient is followed between steps.
    """

    held: Held
    batches: int = 0
    nonzero: bool = False
    finite: bool = True
    origin: Tensor | None = None
    moved: bool = False
    sampled: bool = False
    arrived: bool = False
    order: int = 0
    stepped: Tensor | None = None
    tainted: bool = False
    waiting: int | None = None
    squares: Tensor | None = None
    fresh: Tensor | None = None

    @property
    def compared(self) -> bool:
        """Whether it is known if its values have changed."""
        return self.moved or self.origin is not None

    def release(self) -> None:
        """Lets go of the copies that the next batches have no need of."""
        self.stepped, self.fresh, self.squares = None, None, None
        self.waiting, self.tainted = None, False

    def settle(self) -> None:
        """Lets go of the first values if they are known to have changed. Reads on the host."""
        if self.origin is not None and self.changed():
            self.moved, self.origin = True, None

    def changed(self) -> bool:
        """Whether its values differ from those at the start. Reads on the host."""
        if self.origin is None:
            return True
        now = self.held.parameter.detach()
        return now.shape != self.origin.shape or not torch.equal(now, self.origin)


@dataclass(eq=False)
class Stepping:
    """What was seen of one optimizer.

    Args:
        optimizer: The optimizer.
        steps: Steps seen.
        carried: Steps whose gradient held all of the one before.
        lost: Batches whose gradient was deleted before a step took it.
        norms: Norm of what was last carried, and of what was added to it.
    """

    optimizer: Any
    steps: int = 0
    carried: int = 0
    lost: int = 0
    norms: tuple[float, float] = (0.0, 0.0)
    lost_in: set[int] = field(default_factory=set)
    before: dict[int, Tensor] = field(default_factory=dict)
    fresh: bool = False


class UpdateWatch:
    """Watches gradients arrive and this thread's optimizers step, between :meth:`start` and :meth:`stop` of a batch.

    Hooks on leaf tensors see a gradient before it is added to what is there. They change nothing.

    Args:
        parameters: What to watch: trainable parameters.
        optimizers: The optimizers known.
        ignore: Says that what happens is not the run's own (an experiment).
        tensor_hooks: Whether hooks may be put on parameters.
    """

    def __init__(
        self,
        parameters: Iterable[Held],
        optimizers: Iterable[Any],
        ignore: Callable[[], bool] = lambda: False,
        *,
        tensor_hooks: bool = True,
    ) -> None:
        self.tracks = {id(held.parameter): Track(held) for held in parameters}
        self.steppings: dict[int, Stepping] = {id(item): Stepping(item) for item in optimizers}
        self.updates: list[Callable[[], list[GroupUpdate]]] = []
        self.first = False
        self.batch = -1
        self.steps_of_batch = 0
        self._ignore, self._tensor_hooks = ignore, tensor_hooks
        self._handles: list[Any] = []
        self._bare: list[Tensor] = []  # parameters that had no hooks before ours
        self._measure = False
        self._overflown: set[int] = set()
        self._arrivals = self._stand_ins = 0
        left = BUDGET
        for track in self.tracks.values():
            values = track.held.parameter.detach()
            if values.numel() <= left and not values.is_meta:
                left -= values.numel()
                track.origin = values.clone()
        for item in list(self.steppings.values()):
            self._sample(item)

    def _sample(self, stepping: Stepping) -> None:
        groups = getattr(stepping.optimizer, "param_groups", ())
        known = [self.tracks[id(item)] for group in groups for item in group["params"] if id(item) in self.tracks]
        fit = [track for track in known if 1 < track.held.parameter.numel() <= LARGEST] or known
        for track in fit[:: max(1, len(fit) // SAMPLES)][:SAMPLES]:
            track.sampled = True

    @property
    def steps(self) -> int:
        """Optimizer steps seen."""
        return sum(item.steps for item in self.steppings.values())

    def start(self, batch: int, *, measure: bool = True) -> None:
        """Begins to watch a batch.

        Args:
            batch: Its number in the fit.
            measure: Whether to measure the updates of its steps too.
        """
        self.stop()
        self.batch, self.updates, self.first, self._measure = batch, [], False, measure
        self.steps_of_batch = 0
        for track in self.tracks.values():
            track.arrived, track.squares = False, None
            parameter = track.held.parameter
            if self._tensor_hooks and parameter.requires_grad:
                self._bare += [parameter] if parameter._backward_hooks is None else []  # noqa: SLF001
                self._handles.append(parameter.register_hook(functools.partial(self._arrived, track)))  # type: ignore[no-untyped-call]
        optimizer_steps.listen(self)

    def stop(self) -> None:
        """Ends it; harmless when repeated."""
        optimizer_steps.leave(self)
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for parameter in self._bare:
            if not parameter._backward_hooks:  # noqa: SLF001 - an empty one is asked in every backward from now on
                parameter._backward_hooks = None  # noqa: SLF001
        self._bare = []

    @torch.no_grad()
    def _arrived(self, track: Track, gradient: Tensor) -> None:
        if self._ignore():
            return
        if not track.arrived:
            track.arrived = True
            track.batches += 1
            self._arrivals += 1
            track.order = self._arrivals
        if gradient.layout != torch.strided or hasattr(gradient, "to_local"):
            track.nonzero, track.sampled = True, False
            return
        if not track.nonzero or not self._measure:
            track.nonzero = track.nonzero or bool((gradient != 0).any())
        if not track.sampled and track.nonzero and self._stand_ins < STAND_INS and gradient.numel() <= LARGEST:
            track.sampled = True
            self._stand_ins += 1
        if track.sampled:
            self._account(track, gradient)

    def _account(self, track: Track, gradient: Tensor) -> None:
        present = track.held.parameter.grad
        if present is None or present.shape != gradient.shape or not bool((present != 0).any()):
            track.tainted = False
            if track.waiting is not None and track.waiting < self.batch:
                self._lose(track)
        elif track.stepped is not None and torch.equal(present, track.stepped):
            track.tainted = True
            track.fresh = gradient.detach().clone()
        if bool((gradient != 0).any()):
            track.waiting = self.batch
        if not bool(torch.isfinite(gradient).all()):
            track.finite = False
            self._overflown.add(self.batch)

    def _lose(self, track: Track) -> None:
        batch = track.waiting if track.waiting is not None else self.batch
        if batch in self._overflown:  # no step was to be made of it: a gradient scaler skips it
            return
        for stepping in self.steppings.values():
            groups = getattr(stepping.optimizer, "param_groups", ())
            if any(item is track.held.parameter for group in groups for item in group["params"]):
                stepping.lost_in.add(batch)
                stepping.lost = len(stepping.lost_in)

    @torch.no_grad()
    def before_step(self, optimizer: Any) -> None:
        """Copies what the optimizer is about to change."""
        if self._ignore():
            return
        stepping = self.steppings.setdefault(id(optimizer), Stepping(optimizer))
        stepping.fresh = not getattr(optimizer, "state", None)
        stepping.before = {}
        if not self._measure:
            return
        left = BUDGET
        for group in getattr(optimizer, "param_groups", ()):
            for parameter in group["params"]:
                if parameter.requires_grad and not hasattr(parameter, "to_local") and parameter.numel() <= left:
                    left -= parameter.numel()
                    stepping.before[id(parameter)] = parameter.detach().clone()

    @torch.no_grad()
    def after_step(self, optimizer: Any) -> None:
        """Counts the step, and takes the difference that it made."""
        if self._ignore():
            return
        stepping = self.steppings.setdefault(id(optimizer), Stepping(optimizer))
        stepping.steps += 1
        self.steps_of_batch += 1
        self._note_carried(stepping)
        if stepping.before:
            self.first |= stepping.fresh
            place = list(self.steppings).index(id(optimizer))
            name = type(optimizer).__name__ + (f"[{place}]" if len(self.steppings) > 1 else "")
            for index, group in enumerate(optimizer.param_groups):
                self.updates.append(group_update(name, index, group, stepping.before, optimizer))
            stepping.before = {}

    def _note_carried(self, stepping: Stepping) -> None:
        tainted, seen = 0, 0
        for group in getattr(stepping.optimizer, "param_groups", ()):
            for parameter in group["params"]:
                track = self.tracks.get(id(parameter))
                if track is None or not track.sampled or parameter.grad is None:
                    continue
                seen += track.stepped is not None
                if track.tainted and track.stepped is not None and track.fresh is not None:
                    tainted += 1
                    stepping.norms = (float(track.stepped.norm()), float(track.fresh.norm()))
                track.tainted, track.waiting = False, None
                track.stepped = parameter.grad.detach().clone() if parameter.grad.layout == torch.strided else None
        stepping.carried += bool(tainted) and tainted == seen


def leaves(loss: Tensor, limit: int = 20_000) -> list[nn.Parameter]:
    """The parameters that a loss depends on, from its graph.

    Args:
        loss: The loss.
        limit: Nodes looked at, at most.
    """
    found: dict[int, nn.Parameter] = {}
    todo: list[Any] = [loss.grad_fn]
    seen: set[Any] = set()
    while todo and len(seen) < limit:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            found[id(variable)] = variable
        todo += [item for item, _ in node.next_functions]
    return list(found.values())
