"""Batch-norms with frozen weights: followed over a few steps, once each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from lightning_debug.evidence.modes import FrozenBatchNorm, FrozenBatchNorms
from lightning_debug.probes.batchnorm_drift import Drift, DriftWatch, trainable_twin
from lightning_debug.probes.mode_causes import UserHooks
from lightning_debug.probes.modes import ModeModule, frozen_batch_norm

STEPS = 3
"""Over how many steps they are followed, after the first."""


class DriftAudit:
    """Follows batch-norms whose weights are frozen and whose statistics are live.

    Attributes:
        were_eval: Paths of modules that were seen in eval mode.

    Args:
        model: The LightningModule.
        hooks: The user's overrides of a hook.
    """

    def __init__(self, model: nn.Module, hooks: UserHooks) -> None:
        self.were_eval: set[str] = set()
        self._model, self._hooks = model, hooks
        self._watch: DriftWatch | None = None
        self._from = 0
        self._recorded = False
        self._told: set[str] = set()
        self._frozen: list[tuple[nn.Module, FrozenBatchNorm]] = []

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to tell until something else begins; asked in every step."""
        return self._recorded and self._watch is None and not self._frozen

    def begin(self, step: int, modules: Iterable[ModeModule]) -> Callable[[nn.Module, Any], None] | None:
        """A step begins; what to tell of each module that runs in it, if anything is followed from here on."""
        frozen = [item for item in modules if frozen_batch_norm(item.module)]
        if self._watch is not None or all(item.path in self._told for item in frozen):
            return None
        self._watch, self._from = DriftWatch(frozen), step
        return self._watch.called

    def evidence(self, step: int, *, last: bool = False) -> FrozenBatchNorms | None:
        """What they did, once enough steps have passed (or no more come); once with nothing, where there are none.

        Later, those of them whose weights are no longer frozen.
        """
        if thawed := [pair for pair in self._frozen if _is_trained(pair[0])]:
            self._frozen = [pair for pair in self._frozen if not _is_trained(pair[0])]
            return FrozenBatchNorms(steps=step, layers=tuple(replace(layer, thawed=True) for _, layer in thawed))
        if self._watch is None and not self._recorded and (step >= STEPS or last):
            self._recorded = True
            return FrozenBatchNorms(steps=step + (not last))
        if self._watch is None or (step - self._from < STEPS and not last):
            return None
        watch, self._watch, self._recorded = self._watch, None, True
        drifts = watch.drifts() if step > self._from else []
        layers = tuple(self._layer(item) for item in drifts)
        self._told |= {item.path for item in layers}
        self._frozen += [(drift.item.module, layer) for drift, layer in zip(drifts, layers, strict=True)]
        return FrozenBatchNorms(steps=step - self._from + (not last), layers=layers)

    def _layer(self, drift: Drift) -> FrozenBatchNorm:
        item, feeder = drift.item, drift.feeder
        root, twin = trainable_twin(self._model, item)
        names = {id(module): path for path, module in self._model.named_modules()}
        override = next(iter(self._hooks("on_validation_model_train")), None)
        flipped = item.path in self.were_eval
        return FrozenBatchNorm(
            path=item.path,
            class_name=type(item.module).__name__,
            root=root,
            feeder="" if feeder is None else names.get(id(feeder), type(feeder).__name__),
            feeder_frozen=feeder is not None and not any(weight.requires_grad for weight in feeder.parameters()),
            input_trained=drift.input_trained,
            updates=drift.updates,
            shift=drift.shift,
            weights_changed=drift.weights_changed,
            adapting=drift.adapting,
            twin=twin,
            flipped=flipped,
            override=f"{override[0]}.on_validation_model_train" if flipped and override is not None else "",
        )


def _is_trained(norm: nn.Module) -> bool:
    return any(weight.requires_grad for weight in norm.parameters(recurse=False))
