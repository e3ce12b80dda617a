"""What NonFiniteGuard holds while a fit runs: the window of steps, the last batches, tags of values on their way."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence import Moment
from lightning_debug.evidence.numbers import StepWindow
from lightning_debug.probes.deferred import Values

HELD, HELD_ON_CPU = 2, 8
"""How many batches are held by reference, on a device and on the CPU."""


@dataclass(slots=True)
class Batch:
    """A batch that was trained on, by reference, with the state of torch's generators when its step began."""

    count: int
    index: int
    value: Any
    cpu: Tensor
    cuda: Tensor | None


def last_batches(*, on_cpu: bool) -> deque[Batch]:
    """Room for the batches that are held by reference: on the CPU for those of one accumulation window."""
    return deque(maxlen=HELD_ON_CPU if on_cpu else HELD)


def held(count: int, index: int, value: Any, device: torch.device) -> Batch:
    """A batch about to be trained on. Takes microseconds, and no wait for the device."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return Batch(count, index, value, torch.get_rng_state(), cuda)


@dataclass(frozen=True)
class Tag:
    """What a deferred read holds.

    Args:
        count: Which batch of the fit, from 0.
        names: The names of its values.
        at: When they were.
        divisor: What Lightning has divided the losses by.
        unread: The names of norms that were not taken.
    """

    count: int
    names: tuple[str, ...]
    at: Moment
    divisor: int = 1
    unread: tuple[str, ...] = ()

    def read(self, values: Values) -> Numbers:
        """The values by what they are."""
        losses: dict[str, float] = {}
        norms: dict[str, float | None] = dict.fromkeys(self.unread)
        limits: dict[str, float] = {}
        scale: float | None = None
        for name, value in zip(self.names, values, strict=True):
            if name.startswith("loss"):
                losses[name] = value * self.divisor
            elif name.startswith("gradient_norm"):
                norms[name] = value
            elif name == "scale":
                scale = value
            else:
                limits[name.replace("limit", "gradient_norm")] = value
        return Numbers(losses, norms, scale, limits)


@dataclass(frozen=True)
class Numbers:
    """What is known of one batch.

    Args:
        losses: Losses by name.
        norms: Gradient norms by name; ``None`` where an optimizer has stepped and its norm was not taken.
        scale: The gradient scaler's scale, if there is one.
        limits: Thresholds that follow from the run's own norms, by the norm's name.
    """

    losses: Mapping[str, float]
    norms: Mapping[str, float | None]
    scale: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def bad_loss(self) -> bool:
        """Whether a loss is not finite."""
        return not all(map(math.isfinite, self.losses.values()))

    @property
    def bad_gradient(self) -> bool:
        """Whether a norm is not finite."""
        return any(norm is not None and not math.isfinite(norm) for norm in self.norms.values())

    @property
    def loss(self) -> float | None:
        """The loss to tell: the first that is not finite, else the last."""
        values = list(self.losses.values())
        return next((value for value in values if not math.isfinite(value)), values[-1] if values else None)


@dataclass
class Window:
    """Losses and norms since the last evidence."""

    steps: list[int] = field(default_factory=list)
    losses: dict[str, list[float | None]] = field(default_factory=dict)
    norms: dict[str, list[float | None]] = field(default_factory=dict)
    clipped: int = 0
    not_finite: int = 0
    skipped: int = 0
    skipped_by_scaler: int = 0
    limit: float | None = None  # the latest that follows from the run's own norms

    def add(self, step: int, numbers: Numbers, limit: float | None) -> None:
        """Takes in one batch; ``limit`` is the norm's threshold in force."""
        self._add_losses(step, numbers.losses)
        self._add_norms(numbers.norms, limit, numbers.limits)
        if numbers.limits:
            self.limit = min(filter(math.isfinite, numbers.limits.values()), default=self.limit)
        self.not_finite += numbers.bad_loss or numbers.bad_gradient

    def add_calm(
        self, step: int, losses: Sequence[float], norms: Mapping[str, float | None], limit: float | None
    ) -> None:
        """Takes in one batch whose losses are finite, and whose norms are or were not taken: most are so."""
        self._add_losses(step, dict(zip(loss_names(len(losses)), losses, strict=True)))
        self._add_norms(norms, limit, {})

    def _add_norms(self, norms: Mapping[str, float | None], limit: float | None, limits: Mapping[str, float]) -> None:
        for name, norm in norms.items():
            self.norms.setdefault(name, []).append(norm)
            if norm is not None:
                self.clipped += norm > min(math.inf if limit is None else limit, limits.get(name, math.inf))

    def _add_losses(self, step: int, losses: Mapping[str, float]) -> None:
        for name in losses:
            if name not in self.losses:
                self.losses[name] = [None] * len(self.steps)
        self.steps.append(step)
        for name, values in self.losses.items():
            values.append(losses.get(name))

    def evidence(self, at: Moment, **how: Any) -> StepWindow:
        """The window as evidence."""
        return StepWindow(
            at=at,
            steps=tuple(self.steps),
            losses={name: tuple(values) for name, values in self.losses.items()},
            gradient_norms={name: tuple(values) for name, values in self.norms.items()},
            optimizer_steps=sum(norm is not None for values in self.norms.values() for norm in values),
            clipped=self.clipped,
            not_finite=self.not_finite,
            skipped=self.skipped,
            skipped_by_scaler=self.skipped_by_scaler,
            **how,
        )


def loss_names(count: int) -> list[str]:
    """Names for the losses of one batch.

    >>> loss_names(1), loss_names(2)
    (['loss'], ['loss_0', 'loss_1'])
    """
    return ["loss"] if count == 1 else [f"loss_{index}" for index in range(count)]


def place_of(optimizer: Any, optimizers: Sequence[Any]) -> tuple[int, str]:
    """Which of the Trainer's optimizers one is, and what that adds to the names of its numbers."""
    if len(optimizers) < 2:
        return 0, ""
    index = next((place for place, item in enumerate(optimizers) if item is optimizer), 0)
    return index, f"_{index}"
