"""OptimizerInspector: what is optimised, and how."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.nn import Parameter

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, batches_seen, moment
from lightning_debug.callbacks._optimizer_audit import UpdateAudits
from lightning_debug.callbacks._optimizer_coverage import Coverage
from lightning_debug.callbacks._optimizer_schedules import Schedules, lengths
from lightning_debug.evidence.optimization import (
    GradientCarryover,
    KeptGraphs,
    ParameterCoverage,
    ParametersWithoutGradient,
    ScaledClipping,
    TrainingEffect,
    UpdateAudit,
)
from lightning_debug.evidence.run import TrainedPart
from lightning_debug.evidence.schedules import (
    AccumulationWindow,
    PlateauWatch,
    ScheduleForecast,
    ScheduleInUse,
    ScheduleProgress,
)
from lightning_debug.probes.update_kept_graphs import kept_graphs
from lightning_debug.probes.update_ratio import rate_in_use

MOST_EPOCHS = 8
"""Epochs whose first batch is followed by a look at the model's attributes."""


class OptimizerInspector(DebugCallback):
    """Tells which parameters are trained, what happens to gradients between steps, and what the learning rate will be.

    When training starts it steps private copies of the schedulers to the end of the run. On the first few batches,
    then rarely, it follows gradients and weights through the optimizer's step. The run is not changed.

    | what is logged | as |
    |---|---|
    | ratio of update to weight, by parameter group, on the batches looked at | ``update_to_weight/Adam.0`` |
    """

    produces = (
        ParameterCoverage,
        ParametersWithoutGradient,
        TrainingEffect,
        GradientCarryover,
        AccumulationWindow,
        ScheduleForecast,
        ScheduleInUse,
        ScheduleProgress,
        PlateauWatch,
        UpdateAudit,
        KeptGraphs,
        ScaledClipping,
        TrainedPart,
    )

    _audits: UpdateAudits | None = None
    _coverage: Coverage | None = None
    _schedules: Schedules | None = None
    _kept: dict[tuple[str, str], list[tuple[int, int, int]]] | None = None
    _built: tuple[int | None, ...] = ()
    _batches: int = 0
    _begun: bool = True
    _epoch: int = -1
    _trained: tuple[tuple[bool, ...], int, tuple[bool, ...]] | None = None
    _writes: dict[int, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_audits", "_coverage", "_schedules", "_kept"):  # they hold the model
            state.pop(name, None)
        return state

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what schedulers were built for, before a checkpoint brings another state."""
        self._built = lengths(trainer) if not _hidden(trainer) else ()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Foresees the learning rates, and notes the weights."""
        self._audits = self._coverage = self._schedules = None
        self._kept, self._batches, self._begun, self._epoch = {}, 0, True, -1
        self._trained = None
        self._writes = None
        reason = _hidden(trainer)
        if reason:
            for kind in self.produces:
                self.unavailable(kind, reason, trainer)
            return
        with self.attempt("schedules", trainer):
            self._schedules = Schedules(self, trainer, pl_module, self._built)
        self._begun = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begins to look at this batch, if it is one of those."""
        if not self._begun:  # the model's own on_train_start comes after ours, and may replace layers
            self._begun = True
            with self.attempt("parameters", trainer):
                self._writes = _writes(pl_module.parameters())
                audits = UpdateAudits(self, trainer, pl_module)
                self._audits, self._coverage = audits, Coverage(self, audits)
        if self._schedules is not None and (batch_idx == 0 or self._epoch < 0) and self._epoch != trainer.current_epoch:
            self._epoch = trainer.current_epoch
            with self.attempt("steps of schedules", trainer):
                self._schedules.batch_start(trainer, pl_module)
        if self._audits is None or self._coverage is None:
            return
        self._audits.start(trainer, pl_module, batch_idx)
        if self._audits.looking:
            self._audits.watch_calls(self._coverage.candidates())

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        """Looks at the graph of the loss, on such a batch."""
        if self._audits is not None:
            self._audits.backward(loss, automatic=pl_module.automatic_optimization)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the look, and records what was seen."""
        self._batches += 1
        if batch_idx == 0 and trainer.current_epoch < MOST_EPOCHS:
            with self.attempt("kept graphs", trainer):
                self._look_at_attributes(trainer, pl_module)
        if self._audits is None or self._coverage is None or not self._audits.looking:
            return
        self._audits.end(trainer, pl_module)
        self._coverage.batch_end(trainer, pl_module, self._future)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the schedulers' steps, and asks whether anything moved."""
        if self._schedules is not None:
            self._schedules.epoch_end(trainer, pl_module)
        if self._coverage is not None:
            future = self._future
            if future is None and trainer.current_epoch == 1 and not trainer.lr_scheduler_configs:
                future = rate_in_use(trainer.optimizers)  # nothing is there to change it any more
            self._coverage.epoch_end(trainer, pl_module, future)
        with self.attempt("trained parameters", trainer):
            self._compare_trained(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what was not trained at all."""
        if self._schedules is not None:
            self._schedules.ended(trainer, pl_module)
        if self._coverage is not None:
            self._coverage.finish(trainer, pl_module, self._future)
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the model as it was; a schedule may be what raised."""
        if self._schedules is not None:
            with self.attempt("schedules", trainer):
                self._schedules.ended(trainer, pl_module, exception)
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the model as it was."""
        self._close()

    @property
    def _future(self) -> float | None:
        return self._schedules.future_rate if self._schedules is not None else None

    def _close(self) -> None:
        if self._audits is not None:
            self._audits.stop()
        self._audits = self._coverage = self._schedules = None

    def _compare_trained(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tells whether another part of the model was trained in this epoch than in the one before."""
        parameters, begun, before = list(pl_module.parameters()), self._writes or {}, self._trained
        writes = self._writes = _writes(parameters)
        now = tuple([item.requires_grad and writes.get(id(item)) != begun.get(id(item)) for item in parameters])
        self._trained = now, batches_seen(trainer), tuple([item.requires_grad for item in parameters])
        if before is None or before[0] == now or len(before[0]) != len(now):
            return
        changes = list(zip(before[0], now, strict=True))
        left, joined = changes.count((True, False)), changes.count((False, True))
        waited = all(free for (was, is_now), free in zip(changes, before[2], strict=True) if is_now and not was)
        if joined and (left or waited):
            self.session.observe(TrainedPart(at=moment(trainer), step=before[1], left=left, joined=joined))

    def _look_at_attributes(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._kept is None:
            return
        for key, (size, held) in kept_graphs(pl_module).items():
            looks = self._kept.setdefault(key, [])
            looks.append((size, trainer.current_epoch, self._batches))
            if len(looks) > 1:
                sizes, epochs, batches = zip(*looks, strict=True)
                path, kind = key
                self.session.observe(
                    KeptGraphs(
                        at=moment(trainer),
                        path=path,
                        kind=kind,
                        sizes=sizes,
                        epochs=epochs,
                        batches=batches,
                        bytes_held=held,
                    )
                )


def _hidden(trainer: Trainer) -> str:
    """Why the parameters of this run cannot be followed; empty if they can."""
    names = " ".join(kind.__name__ for kind in type(trainer.strategy).__mro__)
    for word in ("FSDP", "DeepSpeed", "ModelParallel", "XLA"):
        if word in names:
            return f"{type(trainer.strategy).__name__} keeps parameters and gradients in shards of its own"
    return ""


def _writes(parameters: Iterable[Parameter]) -> dict[int, int]:
    """How often each was written in place, which is what an optimizer's step does to those that it trains."""
    return {id(item): item._version for item in parameters if not item.is_inference()}  # noqa: SLF001 - no public name
