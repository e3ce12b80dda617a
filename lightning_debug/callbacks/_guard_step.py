"""One optimizer step under guard: its norm, whether that is finite, the clipping, and the evidence about a bad one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks import _ranks
from lightning_debug.callbacks._guard_replay import Inquiry
from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.evidence import Moment, decode, encode
from lightning_debug.evidence.numbers import NonFiniteStep
from lightning_debug.probes.deferred import host_value
from lightning_debug.probes.gradient_glimpse import glimpse
from lightning_debug.probes.gradient_norms import (
    add_up_sparse,
    clamp_values,
    exact_norm,
    gradients,
    local,
    scale_to_norm,
    summed,
    total_norm,
)
from lightning_debug.probes.nonfinite_tensors import SHOWN, severity


@dataclass(frozen=True)
class Clipping:
    """How gradients are clipped.

    Args:
        max_norm: Their norm is brought down to this; ``None`` for no clipping by norm.
        clip_value: Their values are clamped to this magnitude; ``None`` for no clipping by value.
        norm_type: Order of the norm.
        quantile: Their norm is brought down to this quantile of the run's own norms; ``None`` for not.
        warm_up: After how many norms that begins.
    """

    max_norm: float | None
    clip_value: float | None
    norm_type: float
    quantile: float | None = None
    warm_up: int = 100

    @property
    def by_norm(self) -> bool:
        """Whether gradients are clipped by their norm."""
        return self.max_norm is not None or self.quantile is not None

    def in_force(self, trainer: Trainer, learned: float | None = None) -> tuple[float | None, str]:
        """The threshold on the norm, ours or the Trainer's, and where it was set; ``learned``: from the run's norms."""
        found = [(self.max_norm, "NonFiniteGuard(max_norm)")] if self.max_norm is not None else []
        if learned is not None:
            found.append((learned, "NonFiniteGuard(clip_quantile)"))
        theirs = trainer.gradient_clip_val
        algorithm = trainer.gradient_clip_algorithm
        by_norm = str(getattr(algorithm, "value", algorithm) or "norm") == "norm"
        if theirs and by_norm and self.norm_type == 2.0 and trainer.lightning_module.automatic_optimization:
            found.append((float(theirs), "Trainer(gradient_clip_val)"))
        return min(found, default=(None, ""))


class Step:
    """The gradients of one optimizer before its update.

    Attributes:
        tensors: Their values, sharing memory with them.
        norm: Their norm, one element on the device, as the user knows it (unscaled); ``None`` without gradients, and
            before :meth:`measure`.

    Args:
        trainer: The Trainer.
        optimizer: The optimizer that is about to step.
        clipping: How to clip.
        whole: Whether the norm must cover all ranks' shards.
    """

    def __init__(self, trainer: Trainer, optimizer: Any, clipping: Clipping, *, whole: bool) -> None:
        if clipping.clip_value is not None:
            add_up_sparse(optimizer)
        self._raw = gradients(optimizer)
        self.optimizer = optimizer
        self.tensors = [local(item) for item in self._raw]
        self.norm: Tensor | None = None
        self._clipping, self._whole = clipping, whole
        self._finite: bool | None = None
        self._scale = scale_of(trainer) if getattr(optimizer, "_step_supports_amp_scaling", False) else None

    @property
    def size(self) -> int:
        """How many values the gradients have."""
        return sum(item.numel() for item in self.tensors)

    def measure(self) -> Step:
        """Takes the norm: one pass over the gradients."""
        if self._whole:
            norm = _ranks.whole_norm(self._raw, self._clipping.norm_type)
        else:
            norm = total_norm([summed(item) for item in self._raw], self._clipping.norm_type)
        if norm is not None and self._scale is not None:  # it steps on scaled gradients and unscales them itself
            norm = norm / self._scale.to(norm.device)
        self.norm, self._finite = norm, None
        return self

    def glimpse(self, whole: Sequence[Tensor]) -> float | None:
        """The norm of a small part of the gradients, read on the host; ``None`` where it tells nothing.

        Args:
            whole: Parameters all of whose gradient is looked at.
        """
        value = glimpse(self.tensors)
        if value is None:
            return None
        more = total_norm([local(item.grad) for item in whole if item.grad is not None]) if whole else None
        if more is not None:
            value = math.hypot(value, host_value(more)) if math.isfinite(value) else value
        self._finite = True if math.isfinite(value) else None
        return value

    def finite(self) -> bool:
        """Whether every value is finite, as far as was looked. Reads on the host; an overflow is looked into."""
        if self._finite is None:
            self._finite = self.norm is None or self._is_finite(self.norm)
        return self._finite

    def _is_finite(self, norm: Tensor) -> bool:
        value = host_value(norm)
        if math.isinf(value):  # squares overflow at 2e19 in float32, at 256 in float16
            scale = 1.0 if self._scale is None else host_value(self._scale)
            value = exact_norm(self.tensors, self._clipping.norm_type) / scale
            self.norm = torch.tensor(value, dtype=torch.float64, device=norm.device)
        return math.isfinite(value)

    def clip(self, trainer: Trainer, learned: Tensor | None = None) -> None:
        """Clips in place, without a read on the host; ``learned``: a threshold from the run's own norms."""
        limit: float | Tensor | None = self._clipping.max_norm
        if learned is not None:
            limit = learned if limit is None else learned.clamp(max=limit)
        if limit is not None and self.norm is not None:
            wrapped = _ranks.clip_wrapped(trainer, limit, self._clipping.norm_type)
            if wrapped is not None:
                self.norm = wrapped
            else:
                scale_to_norm(self.tensors, limit, self.norm)
        if self._clipping.clip_value is not None and self.tensors:
            clamp_values(self.tensors, self._clipping.clip_value, self._scale)


def scaler_of(trainer: Trainer) -> Any:
    """The gradient scaler of the run, or ``None``."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler if scaler is not None and scaler.is_enabled() else None


def scale_of(trainer: Trainer) -> Tensor | None:
    """The scaler's scale where it lives, on the device; ``None`` without a scaler or before its first use."""
    scale = getattr(scaler_of(trainer), "_scale", None)
    return scale if isinstance(scale, Tensor) else None


def loss_in(outputs: Any) -> Tensor | None:
    """The loss in what ``training_step`` returned."""
    found = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return found.detach() if isinstance(found, Tensor) and found.numel() == 1 else None


def bad_step(pl_module: LightningModule, optimizer: Any, inquiry: Inquiry, at: Moment, **known: Any) -> NonFiniteStep:
    """The evidence about a bad step."""
    with_gradient = [(name, item.grad) for name, item in pl_module.named_parameters() if item.grad is not None]
    bad = [name for name, grad in reversed(with_gradient) if severity(grad)]
    order = [name for name in inquiry.gradients if name in bad] + [
        name for name in bad if name not in inquiry.gradients
    ]
    order = order or list(inquiry.gradients)
    group: Mapping[str, Any] = next(iter(getattr(optimizer, "param_groups", ())), {})
    rate, epsilon = group.get("lr"), group.get("eps")
    return NonFiniteStep(
        at=at,
        gradients=tuple(order[:SHOWN]),
        gradient_count=len(order),
        gradient_total=max(len(with_gradient), inquiry.total, len(order)),
        fields=inquiry.fields[:SHOWN],
        causes=inquiry.causes,
        proved=inquiry.proved,
        weights=inquiry.weights[:SHOWN],
        origin=inquiry.origin,
        unknown=inquiry.unknown,
        optimizer=type(optimizer).__name__ if optimizer is not None else "",
        learning_rate=float(rate) if isinstance(rate, (int, float)) else None,
        epsilon=float(epsilon) if isinstance(epsilon, (int, float)) else None,
        **known,
    )


def of_all_ranks(trainer: Trainer, event: NonFiniteStep, key: str) -> list[NonFiniteStep]:
    """On rank 0: what is known of a step on any rank; one rank's bad batch makes the gradient bad on all.

    Args:
        trainer: The Trainer.
        event: What this rank knows.
        key: What the step is called on all ranks.
    """
    if trainer.world_size == 1 or trainer.global_rank:
        if trainer.world_size > 1:
            _ranks.tell(key, json.dumps(encode(event)), trainer)
        return [event]
    heard = [decode(json.loads(text)) for text in _ranks.hear(key, trainer)]
    events = [event, *(item for item in heard if isinstance(item, NonFiniteStep))]
    return [item for item in events if item.causes or item.origin is not None] or [event]
