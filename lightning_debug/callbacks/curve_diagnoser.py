"""CurveDiagnoser: reads the learning curves while they grow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._curve_heard import Heard
from lightning_debug.callbacks._curve_log import CurveLog, monitors_of
from lightning_debug.callbacks._curve_measures import StepRaises, confidence, kind_of_loss, reference, remeasured
from lightning_debug.callbacks._lightning import (
    LightningModule,
    Trainer,
    batches_seen,
    callbacks_of,
    evaluated_names,
    is_fast_dev_run,
    moment,
)
from lightning_debug.callbacks._look_budget import SMALL, TOO_LONG, granted, looking, may_begin
from lightning_debug.curves.kind import loss_kind
from lightning_debug.curves.reading import read_curves
from lightning_debug.curves.series import Series
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.answers import AnswerConfidence
from lightning_debug.evidence.curves import (
    CurveReading,
    EpochValues,
    LossKind,
    ReferenceLoss,
    TrainingLossInEval,
)
from lightning_debug.evidence.loss import LossGraph
from lightning_debug.experiments.isolation import Unrepeatable
from lightning_debug.probes.answers import Single
from lightning_debug.schedule import at

MEASURED = at(1, 4, 16, 64, 256)
"""Epochs at whose end a few batches are measured again; once more at the end of the run."""

MEASURED_BATCHES, MEASURED_LAST = 8, 16
"""How many batches are measured again, and how many at the end of the run."""

LEAST = 1.0
"""Seconds that the last measurement may take where earlier looks have used up what there was."""

FEWEST_PASSES = 6
"""Passes that a measurement takes at least: these must be within what first looks may take."""

LONGEST = 8
"""Batches after which it has to be known what goes backward in steps made by hand."""

BY_HAND = "the optimization is manual, and no steps were watched for what goes backward"
"""Why losses are not judged."""

EACH_EPOCH = 32
"""From this epoch on readings become rarer: a run of ten thousand short epochs is not read ten thousand times."""


class CurveDiagnoser(DebugCallback):
    """Reads the learning curves live: each scenario has its own finding, said when it is sure, revised at the end.

    It averages the training loss itself from what the steps return, takes validation loss and metric from what the
    module logs (what a ``ModelCheckpoint`` or ``EarlyStopping`` monitors, or under the usual names), and measures what
    curves alone leave open: the training loss of a few fixed batches in eval mode and by ``validation_step``; what the
    nearest neighbours make of the same samples; how sure right and wrong answers are.

    - LD701 to LD705: the training loss rises, stalls, plateaus, falls slowly, settles too high
    - LD706, LD707: overfitting, from the beginning or from an epoch on
    - LD708 to LD711: good fit, validation below training, loss and metric rising together
    - LD712, LD713: no better than the baseline, spikes
    - LD714, LD715: the epoch to keep, still improving
    """

    produces = (CurveReading, EpochValues, LossKind, ReferenceLoss, TrainingLossInEval, AnswerConfidence)

    _log: CurveLog | None = None
    _kind: LossKind | None = None
    _answers: Single | None = None
    _emitted: int = -1
    _told: int = 0
    _heard: Heard | None = None
    _refused: bool = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins anew."""
        self._log = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the curves."""
        if trainer.barebones or is_fast_dev_run(trainer):
            return
        self._log = CurveLog(monitors=monitors_of(callbacks_of(trainer)))
        self._kind, self._answers, self._emitted, self._told = None, None, -1, 0
        self._refused, self._heard = False, None
        if not pl_module.automatic_optimization:
            self._heard = Heard(pl_module)
            if LossGraph not in self.session.kinds:
                self._tell_kind(LossKind(reason=BY_HAND), trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Looks at what the loss is, where nobody else does."""
        if self._log is None or self._kind is not None or LossGraph in self.session.kinds:
            return
        self._tell_kind(kind_of_loss(trainer, pl_module, batch, batch_idx), trainer)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        """Hears the losses of steps that are made by hand."""
        if self._heard is not None:
            self._heard.hear(loss)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes the step's loss."""
        log = self._log
        if log is None:
            return
        given = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        value = given if isinstance(given, Tensor) and given.numel() == 1 and not given.is_complex() else None
        if value is not None and value.requires_grad:  # Lightning's own is detached
            value = value.detach()
        if self._heard is not None:
            value = self._heard.take(value, trainer)
        if value is not None:
            log.loss(value, batches_seen(trainer), last=trainer.is_last_batch)
        if not log.is_full and (self._heard is None or self._kind is None or self._kind.supervised):
            log.keep(batch)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keeps the first batch."""
        if self._log is not None and batch_idx == dataloader_idx == 0:
            self._log.keep_validation(batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes what the validation logged."""
        if self._log is not None and not trainer.sanity_checking:
            names = evaluated_names(trainer)
            self._log.validated(trainer.callback_metrics, batches_seen(trainer), trainer.current_epoch, names)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the curves so far."""
        log, epoch = self._log, trainer.current_epoch
        if log is None:
            return
        log.end_epoch(trainer)
        self._arrive(trainer, log)
        if MEASURED(epoch) and epoch + 1 != trainer.max_epochs:
            self._measure(trainer, pl_module)
        if epoch < EACH_EPOCH or epoch % (epoch // (EACH_EPOCH // 2)) == 0:
            self._read(trainer, final=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures for the last time, and reads the whole curves."""
        log = self._log
        if log is None:
            return
        log.flush()
        self._arrive(trainer, log, wait=True)
        self._measure(trainer, pl_module, last=True)
        with self.attempt("neighbours", trainer):
            found, reason = reference(log.batches(), self._kind or LossKind())
            if found is None:
                self.unavailable(ReferenceLoss, reason, trainer)
            else:
                self._observe(found, trainer)
        self._read(trainer, final=True)
        self._log = self._answers = self._heard = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Reads what there is."""
        log = self._log
        if log is not None:
            log.flush()
            self._arrive(trainer, log)
            self._read(trainer, final=True)
        self._log = self._answers = self._heard = None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of batches."""
        self._log = self._answers = self._heard = None

    def _factor(self, trainer: Trainer) -> float:
        if self._heard is None:
            return float(trainer.accumulate_grad_batches)
        return 1.0 / self._kind.share if self._kind is not None else 1.0

    def _arrive(self, trainer: Trainer, log: CurveLog, *, wait: bool = False) -> None:
        """Files the values that have arrived; those of steps made by hand not before it is known what they are."""
        self._look(trainer)
        if wait or self._heard is None or self._kind is not None:
            log.arrive(self._factor(trainer), wait=wait)

    def _tell_kind(self, kind: LossKind, trainer: Trainer) -> None:
        self._kind = kind
        if self._log is not None:
            self._log.function = kind.function
        self._observe(kind, trainer)

    def _look(self, trainer: Trainer) -> None:
        if (self._kind is not None and self._heard is None) or LossGraph not in self.session.kinds:
            return
        graphs = [graph for graph in self.session.record.of(LossGraph) if graph.step == "training_step"]
        if self._heard is not None:
            kind = self._heard.kind(graphs, trainer)
            if kind is None and batches_seen(trainer) >= LONGEST:
                kind = LossKind(reason=BY_HAND)
            if kind is not None and kind != self._kind and (self._kind is None or self._kind.supervised):
                self._tell_kind(kind, trainer)
        elif graphs:
            self._tell_kind(loss_kind(graphs), trainer)

    def _observe(self, evidence: Evidence | None, trainer: Trainer) -> None:
        if evidence is not None:
            self.session.observe(dataclasses.replace(evidence, at=moment(trainer)))

    def _measure(self, trainer: Trainer, pl_module: LightningModule, *, last: bool = False) -> None:
        log = self._log
        if log is None or self._refused or not log.has_batches:
            return
        known = self._kind or LossKind()
        if self._heard is not None and not known.supervised:
            return
        with self.attempt("measuring batches again", trainer), looking(self.session):
            try:
                if not may_begin(self.session, FEWEST_PASSES, LEAST if last else SMALL):
                    self.unavailable(TrainingLossInEval, TOO_LONG, trainer)
                    return
                chosen = log.batches(MEASURED_LAST if last else MEASURED_BATCHES)
                val_batch = log.validation_batch
                seconds = max(LEAST, granted(self.session) / 2) if last else granted(self.session) / 2
                found = remeasured(
                    trainer,
                    pl_module,
                    chosen,
                    log.names.val,
                    val_batch,
                    data=last,
                    seconds=seconds,
                    share=known.share,
                )
                self._observe(found, trainer)
                if val_batch is not None and log.names.val:
                    sure = confidence(trainer, pl_module, val_batch, self._answers)
                    if sure is not None:
                        self._answers = self._answers or sure[1]
                        self._observe(sure[0], trainer)
            except (Unrepeatable, StepRaises) as refused:
                self._refused = True
                self.unavailable(TrainingLossInEval, str(refused), trainer)

    def _read(self, trainer: Trainer, *, final: bool) -> None:
        log = self._log
        if log is None or not (log.train.length or len(log.validations)):
            return
        self._look(trainer)
        step, judged = batches_seen(trainer), log.train
        if self._heard is not None and not (self._heard.returned or (self._kind or LossKind()).supervised):
            judged = Series()  # what several losses come to is no course
        mean, error, count = log.train.between(self._emitted, step + 1)
        seen = log.validations
        fresh = len(log.values) > self._told  # counted: an epoch of one step ends at the step of its validation
        if not final or (count and step > self._emitted):
            self._observe(
                EpochValues(
                    train_loss=mean if count else None,
                    train_error=error if count > 1 else None,
                    batches=count,
                    val_loss=seen.losses[-1] if fresh and seen.loss_name else None,
                    metrics=log.values[-1] if fresh else {},
                ),
                trainer,
            )
        self._emitted, self._told = step, len(log.values)
        epochs = trainer.current_epoch + (0 if final else 1)
        reading = read_curves(
            judged,
            seen,
            epochs=epochs,
            final=final,
            learning_rates=log.rates,
            batch_size=log.largest,
            partial=log.partial,
        )
        self._observe(reading, trainer)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_log", None)
        state.pop("_answers", None)
        state.pop("_heard", None)
        return state
