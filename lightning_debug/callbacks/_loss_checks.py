"""LossChecks: the part of LossInspector that asks whether the loss is the right one, and means the same everywhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_compiled, moment
from lightning_debug.callbacks._look_budget import TOO_LONG, looking, may_begin, priced
from lightning_debug.callbacks._loss_windows import LossWindows
from lightning_debug.callbacks._taps import Shadow
from lightning_debug.evidence import Evidence, Hindrance
from lightning_debug.evidence.loss import LossGraph
from lightning_debug.evidence.loss_checks import (
    BatchScaling,
    EarlierTraining,
    LabelOrder,
    StatedIntent,
    UnevenCounts,
    ValidationLossComparison,
)
from lightning_debug.experiments.loss_experiments import NotJudged, batch_scaling, compare_validation
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.batch_slicing import structure
from lightning_debug.probes.label_order import features, label_order
from lightning_debug.probes.stated_intent import earlier_training, fields_of, metric_names, stated_words, was_trained
from lightning_debug.probes.trace import changed_by_tracing, compiled_functions

PRODUCES: tuple[type[Evidence], ...] = (
    StatedIntent,
    LabelOrder,
    EarlierTraining,
    BatchScaling,
    ValidationLossComparison,
    UnevenCounts,
)
"""The evidence that comes from here."""

DISTANCES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "difference")
"""Losses that take labels for amounts."""

NAMED_STEPS = 3
"""Training steps whose logged names are noted."""

ORDER_SAMPLES, ORDER_STEPS = 400, 16
"""The order of labels is measured over so many samples, or over the samples of so many steps."""


class LossChecks:
    """Called by a callback's hooks of the same names; it installs nothing beyond the first few steps.

    Make one for each fit, in ``setup``: the sanity check comes before ``on_train_start``.

    Args:
        callback: The callback whose session takes the evidence.
    """

    def __init__(self, callback: DebugCallback) -> None:
        self._callback = callback
        self._shadows: list[Shadow] = []
        self._windows: LossWindows | None = None
        self._batches = 0
        self._logged: dict[str, bool] = {}
        self._intent = StatedIntent()
        self._compared = False
        self._comparison: ValidationLossComparison | None = None
        self._refused: tuple[tuple[str, ...], str] | None = None
        self._ordered: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        self._order_done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads what training has not touched yet."""
        self._observe(earlier_training(pl_module), trainer)
        reason = self._no_windows(trainer, pl_module)
        if reason:
            self._callback.unavailable(UnevenCounts, reason, trainer)
        else:
            self._windows = LossWindows(self._callback)

    def _no_windows(self, trainer: Trainer, pl_module: LightningModule) -> str:
        if not pl_module.automatic_optimization:
            return "the optimization is manual, so that what an optimizer step averages over is not known"
        if is_compiled(pl_module) or compiled_functions(pl_module):
            return Hindrance("the model is compiled, and its loss calls are not seen")
        if changed_by_tracing(pl_module):
            return "watching this model's steps would change their last bits"
        if trainer.accumulate_grad_batches > 1:
            return ""
        if trainer.world_size > 1:
            return "the counts of other ranks are not known"
        return "each step takes one batch, so that its mean is not averaged again"

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Makes the experiments of the first step, and watches the first few."""
        step, self._batches = self._batches, self._batches + 1
        if step == 0:
            self._begin(trainer, pl_module, batch, batch_idx)
        if self._refused is not None:
            self._compare_whole(trainer, pl_module, batch, batch_idx)
        if step < NAMED_STEPS:
            self._note_names(pl_module)
        if not self._order_done:
            if batch_idx == 0 and step > 0:
                self._measure_order(trainer)  # in a second epoch samples come again, and would count twice
            else:
                self._gather_labels(batch, step, trainer)
        if self._windows is not None:
            with self._callback.attempt("counts", trainer):
                self._windows.start_batch(trainer, pl_module, batch, batch_idx)

    def _begin(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        with self._callback.attempt("intent", trainer):
            self._intent = StatedIntent(
                fields=fields_of(batch),
                logged=tuple(self._logged),
                metrics=metric_names(pl_module),
                words=stated_words(pl_module),
            )
            self._observe(self._intent, trainer)
        with self._callback.attempt("batch scaling", trainer), looking(self._callback.session):
            try:
                found = batch_scaling(trainer, pl_module, batch, batch_idx, goes_on=self._goes_on)
                self._observe(found, trainer)
            except NotJudged as error:
                self._callback.unavailable(BatchScaling, error.reason, trainer)

    def _goes_on(self, seconds: float) -> bool:
        session = self._callback.session
        priced(session, seconds)
        return may_begin(session, passes=2)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Takes the watches off."""
        if self._shadows:
            self._remove()
            self._state_names(trainer)
        if self._windows is not None:
            with self._callback.attempt("counts", trainer):
                last = bool(getattr(trainer, "is_last_batch", False))
                self._windows.end_batch(batch_idx, last=last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Compares the steps on the first batch of the first validation, and notes the names it logs."""
        if self._compared or getattr(trainer.state.fn, "value", "") != "fit":
            return
        self._note_names(pl_module)
        if trainer.sanity_checking or dataloader_idx:
            return
        self._compared = True
        with self._callback.attempt("validation loss", trainer), looking(self._callback.session):
            try:
                if not may_begin(self._callback.session, passes=2):
                    raise NotJudged(TOO_LONG)
                self._comparison = compare_validation(trainer, pl_module, batch, batch_idx, dataloader_idx)
            except NotJudged as error:
                self._refused = structure(batch), error.reason

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the watches off; records the comparison unless its key is not averaged over batches."""
        if self._shadows:
            self._remove()
            self._state_names(trainer)
        found, self._comparison = self._comparison, None
        if found is not None:
            self._record_comparison(found, trainer)

    def _compare_whole(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Tries again with a training batch, whole, if it is made like the validation batch that was refused."""
        assert self._refused is not None
        (made, reason), self._refused = self._refused, None
        with self._callback.attempt("validation loss", trainer), looking(self._callback.session):
            try:
                if structure(batch) != made or reason == TOO_LONG:
                    raise NotJudged(reason)
                found = compare_validation(trainer, pl_module, batch, batch_idx, whole=True)
                self._record_comparison(found, trainer)
            except NotJudged as error:
                self._callback.unavailable(ValidationLossComparison, error.reason, trainer)

    def _record_comparison(self, found: ValidationLossComparison, trainer: Trainer) -> None:
        if found.relation == "summed" and not self._logged.get(found.key, True):
            self._callback.unavailable(
                ValidationLossComparison, f"{found.key!r} is not logged as a mean over batches", trainer
            )
        else:
            self._observe(found, trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the order of labels where the run was short, and says what was not seen."""
        if trainer.global_step:
            was_trained(pl_module)
        if not self._order_done:
            self._measure_order(trainer)
        if self._refused is not None or not self._compared:
            reason = self._refused[1] if self._refused is not None else "no validation ran"
            self._callback.unavailable(ValidationLossComparison, reason, trainer)
        if self._windows is not None and not self._callback.session.record.seen(UnevenCounts):
            reason = "no loss was a mean over targets whose number is known"
            self._callback.unavailable(UnevenCounts, reason, trainer)

    def close(self) -> None:
        """Takes every watch off."""
        self._remove()
        if self._windows is not None:
            self._windows.close()

    def _observe(self, evidence: Evidence, trainer: Trainer) -> None:
        self._callback.session.observe(dataclasses.replace(evidence, at=moment(trainer)))

    def _note_names(self, pl_module: LightningModule) -> None:
        if is_compiled(pl_module):
            return  # a step that is compiled as a whole would be compiled again

        def log(original: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
            self._note(name, args, kwargs)
            return original(name, *args, **kwargs)

        def log_dict(original: Any, dictionary: Any, *args: Any, **kwargs: Any) -> Any:
            for name in list(dictionary):
                self._note(name, (None, *args), kwargs)
            return original(dictionary, *args, **kwargs)

        self._shadows = [Shadow(pl_module, "log", log), Shadow(pl_module, "log_dict", log_dict)]

    def _note(self, name: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remembers a name, and whether its values are averaged over batches."""
        reduce = kwargs.get("reduce_fx", args[5] if len(args) > 5 else "mean")
        self._logged[str(name)] = reduce in ("mean", "avg", torch.mean)

    def _state_names(self, trainer: Trainer) -> None:
        fresh = dataclasses.replace(self._intent, logged=tuple(self._logged))
        if fresh != self._intent:
            self._intent = fresh
            self._observe(fresh, trainer)

    def _remove(self) -> None:
        for shadow in reversed(self._shadows):
            shadow.remove()
        self._shadows = []

    def _gather_labels(self, batch: Any, step: int, trainer: Trainer) -> None:
        """Collects labels and inputs where integer labels are a target that is not one of classes."""
        if step == 0:
            return  # what the loss compares with is known after the first step
        if step == 1:
            self._ordered = {name: ([], []) for name in self._suspects()}
        with self._callback.attempt("label order", trainer):
            for name, (inputs, labels) in self._ordered.items():
                fields = dict(batch_fields(batch))
                _collect(fields, name, inputs, labels)
        gathered = max((sum(map(len, labels)) for _, labels in self._ordered.values()), default=ORDER_SAMPLES)
        if gathered >= ORDER_SAMPLES or step >= ORDER_STEPS:
            self._measure_order(trainer)

    def _suspects(self) -> list[str]:
        """Integer fields of the batch that a loss compares with as if they were real numbers."""
        graph = self._callback.session.record.last(LossGraph)
        calls = [call for call in graph.reaching if call.function in DISTANCES] if graph is not None else []
        targets = [call.target for call in calls if call.target is not None]
        ranges = {(target.minimum, target.maximum) for target in targets if target.integral and target.from_batch}
        fields = [field for field in self._intent.fields if field.lowest is not None]
        return [field.name for field in fields if (field.lowest, field.highest) in ranges]

    def _measure_order(self, trainer: Trainer) -> None:
        self._order_done = True
        for name, (inputs, labels) in self._ordered.items():
            if labels:
                with self._callback.attempt("label order", trainer):
                    rows = torch.cat(inputs) if len(inputs) == len(labels) else None
                    self._observe(label_order(name, rows, torch.cat(labels)), trainer)
        self._ordered = {}


def _collect(fields: dict[str, Tensor], name: str, inputs: list[Tensor], labels: list[Tensor]) -> None:
    label = fields.get(name)
    if label is None or not label.ndim or label.numel() != len(label):
        return
    labels.append(label.detach().reshape(-1).cpu())
    candidates = [
        field
        for other, field in fields.items()
        if other != name and field.is_floating_point() and field.ndim > 1 and len(field) == len(label)
    ]
    if candidates:
        inputs.append(features(max(candidates, key=Tensor.numel)))
