"""MetricAuditor: what logged metrics are made of."""

from __future__ import annotations

from typing import Any

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_compiled, steps_are_compiled
from lightning_debug.callbacks._look_budget import TOO_LONG, looking, may_begin
from lightning_debug.callbacks._metric_accuracy import AccuracyReplay
from lightning_debug.callbacks._metric_averages import AverageWatch
from lightning_debug.callbacks._metric_monitors import MonitorWatch
from lightning_debug.callbacks._metric_state import StateWatch
from lightning_debug.callbacks._ranks import is_sharded
from lightning_debug.evidence import Hindrance
from lightning_debug.evidence.metrics import AccuracyComparison, BatchAverages, MetricStates
from lightning_debug.evidence.selection import MonitoredValue
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.probes.order_loader import hands_on_items
from lightning_debug.probes.trace import changed_by_tracing

AUDITED = 3
"""Validations of which every batch's logged values are kept."""


class MetricAuditor(DebugCallback):
    """Computes logged metrics again, and says where they hold what they should not.

    It counts the updates in metric objects where epochs begin, runs the hook that logs hand-kept totals a second time
    in isolation without what earlier epochs left in them, compares the mean of uneven batches with the weighted one,
    and computes the accuracy of a few validation batches from what their loss receives. It looks at the first few
    epochs; of values that checkpoints, early stopping or a plateau schedule decide by it follows the best ones. The run
    is not changed.

    Records :class:`~lightning_debug.evidence.metrics.MetricStates`,
    :class:`~lightning_debug.evidence.metrics.BatchAverages`,
    :class:`~lightning_debug.evidence.metrics.AccuracyComparison` and
    :class:`~lightning_debug.evidence.selection.MonitoredValue`.
    """

    produces = (MetricStates, BatchAverages, AccuracyComparison, MonitoredValue)

    _state: StateWatch | None = None
    _averages: AverageWatch | None = None
    _accuracy: AccuracyReplay | None = None
    _monitors: MonitorWatch | None = None
    _validations: int = 0
    _first: bool = False
    _epoch_begins: bool = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins anew."""
        self._release()
        if stage == "fit":
            self._state = StateWatch(self.session.observe)
            self._averages = AverageWatch(self.session.observe)
            self._accuracy = AccuracyReplay()
            self._monitors = MonitorWatch(self.session.observe)
            self._validations, self._epoch_begins = 0, True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what cannot be seen here."""
        if self._monitors is not None:
            self._monitors.begin(trainer)
        if is_compiled(pl_module) or changed_by_tracing(pl_module):
            self._accuracy = None
            self.unavailable(
                AccuracyComparison, "the model cannot be watched without changing what it computes", trainer
            )
        if steps_are_compiled(pl_module):
            self._state = self._averages = None
            reason = Hindrance("training_step is compiled, and replacing self.log would have it compiled again")
            for kind in (MetricStates, BatchAverages):
                self.unavailable(kind, reason, trainer)
        if is_sharded(trainer) and self._accuracy is not None:
            self._accuracy = None  # what a rank finds ends its replays, and the others would wait for its shard
            self.unavailable(AccuracyComparison, "the model is sharded over ranks", trainer)
        if trainer.world_size > 1:
            self._averages = None
            self.unavailable(BatchAverages, "other ranks' batches are not known", trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The next batch is the epoch's first."""
        self._epoch_begins = True
        self.rest()
        if self._state is not None:
            self._state.end(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Looks at what metrics hold when an epoch begins."""
        if self._epoch_begins and self._state is not None:
            self._state.begin_batch(pl_module, "train")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks at what the first batch added."""
        if self._epoch_begins and self._state is not None:
            self._state.end_batch(pl_module, "train")
        self._epoch_begins = False
        self.rest("on_train_batch_start", "on_train_batch_end")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at what the epoch's values are made of."""
        self._end_of_epoch(trainer, pl_module, "train")
        if self._monitors is not None:
            with self.attempt("monitors", trainer):
                self._monitors.end_of_epoch(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The next batch is the validation's first."""
        self._first = self._is_real(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begins to follow a validation, and runs its first batches again."""
        if not self._is_real(trainer):
            return
        if self._first:
            self._begin_validation(trainer, pl_module)
        elif self._state is not None:
            self._state.settle(pl_module, "validate")
        replay = self._accuracy
        if replay is not None and dataloader_idx == 0 and replay.wants(batch_idx):
            with self.attempt("accuracy", trainer), looking(self.session):
                try:
                    if not may_begin(self.session, passes=1):
                        raise NotJudged(TOO_LONG)
                    for found in replay.run(trainer, pl_module, batch, batch_idx):
                        self.session.observe(found)
                except NotJudged as error:
                    self._accuracy = None
                    self.unavailable(AccuracyComparison, error.reason, trainer)

    def _begin_validation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validations += 1
        loaders = trainer.num_val_batches
        if self._state is not None:
            with self.attempt("metric state", trainer):
                self._state.begin_batch(pl_module, "validate")
        if self._averages is not None and self._validations <= AUDITED and len(loaders) == 1:
            with self.attempt("averages", trainer):
                given = trainer.val_dataloaders
                only = given[0] if isinstance(given, (list, tuple)) and given else given
                self._averages.begin(pl_module, uncollated=hands_on_items(only))
        if self._accuracy is not None:
            self._accuracy.begin()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Looks at what the first batch added, and how many rows each has."""
        if not self._is_real(trainer):
            return
        if self._first and self._state is not None:
            self._state.end_batch(pl_module, "validate")
        self._first = False
        if self._averages is not None:
            with self.attempt("averages", trainer):
                self._averages.add(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at what the validation's values are made of."""
        if not self._is_real(trainer):
            return
        self._end_of_epoch(trainer, pl_module, "validate")
        if self._averages is not None:
            with self.attempt("averages", trainer):
                self._averages.begin_end(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares what was logged with what the batches logged."""
        if not self._is_real(trainer):
            if self._state is not None and getattr(trainer.state.fn, "value", "") == "fit":
                self._state.book(pl_module)
            return
        if self._monitors is not None:
            with self.attempt("monitors", trainer):
                self._monitors.validated(trainer)
        if self._averages is not None and self._averages.active:
            with self.attempt("averages", trainer):
                self._averages.end(trainer, trainer.callback_metrics)
        if self._state is not None:
            self._state.end(trainer)
            self._state.book(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the watches off."""
        if self._state is not None:
            self._state.end(trainer)
        if self._averages is not None:
            self._averages.release()
        self._tell_monitors(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the module as it was."""
        self._tell_monitors(trainer)
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the module as it was."""
        self._release()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in (
            "_state",
            "_averages",
            "_accuracy",
            "_monitors",
        ):  # they hold the model and what is put over its methods
            state.pop(name, None)
        return state

    def _end_of_epoch(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._state is None:
            return
        with self.attempt("metric state", trainer):
            reason = self._state.begin_end(trainer, pl_module, stage)
            if reason:
                self.unavailable(MetricStates, reason, trainer)

    def _tell_monitors(self, trainer: Trainer) -> None:
        watch, self._monitors = self._monitors, None
        if watch is not None:
            with self.attempt("monitors", trainer):
                watch.tell(trainer, final=True)

    def _is_real(self, trainer: Trainer) -> bool:
        return not trainer.sanity_checking and getattr(trainer.state.fn, "value", "") == "fit"

    def _release(self) -> None:
        for watch in (self._state, self._averages):
            if watch is not None:
                watch.release()
        self._state = self._averages = self._accuracy = self._monitors = None
