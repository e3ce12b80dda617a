"""ModelInspector: what the model's outputs depend on, found by changing its inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._experiment_budget import UNKNOWN
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.callbacks._look_budget import TOO_LONG, looking, may_begin, may_look, priced
from lightning_debug.callbacks._model_loaders import last_batch, why_not_samples
from lightning_debug.evidence import Evidence, RunContext
from lightning_debug.evidence.model import (
    BatchNormBatches,
    FutureLeak,
    Initialisation,
    InputDependence,
    LinearChain,
    SampleMixing,
)
from lightning_debug.evidence.modes import ModeGap
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.future_leak import future_leak
from lightning_debug.experiments.input_dependence import input_dependence, where_lost
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.experiments.mode_gap import mode_gap, tracking_norms
from lightning_debug.experiments.model_runs import gradients, kept_samples, passes, usual_count
from lightning_debug.experiments.sample_mixing import sample_mixing
from lightning_debug.probes.batch_shelf import BatchShelf
from lightning_debug.probes.batch_slicing import Uncuttable, batch_size
from lightning_debug.probes.model_chain import layer_signals, linear_chain
from lightning_debug.probes.model_norms import equal_rows, norm_inputs, still_alike
from lightning_debug.schedule import at, either, first

EXCHANGES = 2
"""The step before which samples are exchanged: a layer that starts out as zero hides what comes before it."""
SYMMETRY = 8
"""The step before which weights that were equal at the start are looked at again."""
EPOCHS = either(first(3), at(4, 8, 16, 32, 64, 128, 256, 512))
"""The epochs at whose end predictions and modes are looked at."""
ROUNDING = 1e-4
"""Share of the largest prediction below which a change is not worth asking where it was lost."""
EXCHANGED = 5
"""Passes that an exchange of samples takes."""
KEPT, KEPT_BYTES = 64, 2**15
"""Samples of the first batch that are kept for these looks: in memory up to so many bytes, else in a file."""
BUDGET, SHARE = 3.0, 0.03
"""Seconds that the passes of one experiment may take, or a share of the run that is planned if that is more."""


class ModelInspector(DebugCallback):
    """Exchanges inputs in isolated forward passes, and sees which outputs follow.

    - LD309: predictions that do not depend on the input
    - LD405: batch-norm over a handful of values
    - LD409: outputs that depend on other samples of the batch
    - LD410: sequence models that see what they are to predict
    - LD411: weights that start out, and stay, equal
    - LD412: linear layers with nothing nonlinear between them
    - LD413: a batch that costs far more in eval mode than in train mode

    Passes take 13 samples at most, before the first few steps and at the end of a few epochs. Nothing is installed
    in between, and the run itself is not changed.
    """

    produces: ClassVar[tuple[type[Evidence], ...]] = (
        SampleMixing,
        FutureLeak,
        InputDependence,
        ModeGap,
        BatchNormBatches,
        Initialisation,
        LinearChain,
    )

    _batches: int = 0
    _spent: float = 0.0
    _price: float = 0.0
    _shelf: BatchShelf | None = None
    _index: int = 0
    _exchanged: bool = False
    _looked: int = -1
    _first_loss: float | None = None
    _alike: dict[str, Tensor] | None = None
    _signals: tuple[Any, ...] = ()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins anew."""
        self._forget()
        self._batches, self._spent, self._looked = 0, 0.0, -1
        self._exchanged, self._first_loss, self._signals = False, None, ()
        self._alike = equal_rows(pl_module)
        self._others = [(item, item.detach().clone()) for item in _small_parameters(pl_module)] if self._alike else []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Runs the experiments that are due before this step."""
        step, self._batches = self._batches, self._batches + 1
        if step == 0:
            self._try(trainer, InputDependence, lambda: self._keep(batch, batch_idx))
            self._try(trainer, LinearChain, lambda: self._structure(trainer, pl_module, batch, batch_idx), 1)
        elif step == EXCHANGES and may_begin(self.session, EXCHANGED):  # else at the end of training
            self._exchange(trainer, pl_module, batch, batch_idx)
        elif step == SYMMETRY:
            self._symmetry(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks at predictions and modes when an epoch ends."""
        if trainer.is_last_batch and EPOCHS(trainer.current_epoch):
            self._look(trainer, pl_module, last=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks once more."""
        if self._shelf is not None:
            if not self._exchanged:
                self._exchange(trainer, pl_module, *self._kept)
            self._symmetry(trainer, pl_module)
            self._look(trainer, pl_module, last=True)
        self._forget()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lets go of what was kept."""
        self._forget()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of what was kept."""
        self._forget()

    def _forget(self) -> None:
        self._shelf, self._alike, self._others = None, None, []

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_shelf", "_alike", "_others"):  # they hold data and weights
            state.pop(name, None)
        return state

    def _try(self, trainer: Trainer, kind: type[Evidence], experiment: Callable[[], Any], count: int = 0) -> None:
        """Runs an experiment of so many passes; what keeps it from being run is why its rules are skipped."""
        if not may_begin(self.session, count):
            self.unavailable(kind, TOO_LONG, trainer)
            return
        begun = working_time()
        with self.attempt(kind.__name__, trainer), looking(self.session):
            try:
                experiment()
            except NotJudged as error:
                self.unavailable(kind, error.reason, trainer)
            except Uncuttable as error:
                self.unavailable(kind, str(error), trainer)
        self._spent += working_time() - begun

    def _limit(self, price: float) -> float:
        """Seconds that an experiment may take whose passes take ``price`` seconds each."""
        context = self.session.record.last(RunContext)
        planned = context.planned_steps if context is not None and context.planned_steps is not None else UNKNOWN
        return max(BUDGET, SHARE * price * planned)

    def _keep(self, batch: Any, batch_idx: int) -> None:
        shelf = BatchShelf(in_memory=KEPT_BYTES)
        shelf.put(kept_samples(batch, KEPT))
        self._shelf, self._index = shelf, batch_idx

    @property
    def _kept(self) -> tuple[Any, int]:
        """The first samples of the first batch, read anew, and its index."""
        assert self._shelf is not None
        return self._shelf.get(0), self._index

    def _structure(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        with passes(trainer, pl_module, batch, batch_idx, fewest=1, limit=self._limit) as runs:
            trace = runs.run(runs.batch())
            self.session.observe(dataclasses.replace(linear_chain(trace, pl_module), at=moment(trainer)))
            self._signals = layer_signals(trace)
            trace.release()
            priced(self.session, runs.price)
        norms = norm_inputs(trace, pl_module, runs.samples)  # in the modes that the step will run in
        if norms:
            size, dataset, rest = last_batch(trainer, _size(batch))
            synchronised = any(item.class_name == "SyncBatchNorm" for item in norms)
            ranks = trainer.world_size if synchronised else 1
            self.session.observe(
                BatchNormBatches(
                    at=moment(trainer), batch_size=size, ranks=ranks, last_batch=rest, dataset_size=dataset, norms=norms
                )
            )
        if self._shelf is not None and tracking_norms(pl_module) and may_begin(self.session, 3):
            found = mode_gap(trainer, pl_module, *self._kept, first_loss=None, steps=0, last=False)
            self._first_loss = found.train_loss

    def _exchange(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._exchanged = True
        self._try(trainer, SampleMixing, lambda: self._mixing(trainer, pl_module, batch, batch_idx), EXCHANGED)
        self._try(trainer, FutureLeak, lambda: self._future(trainer, pl_module, batch, batch_idx), 3)

    def _mixing(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if len(trainer.optimizers) > 1:
            raise NotJudged("networks that are trained against each other may compare samples")
        reason = why_not_samples(trainer, batch)
        if reason:
            raise NotJudged(reason)
        with passes(trainer, pl_module, batch, batch_idx, limit=self._limit) as runs:
            base = runs.base()
            found = sample_mixing(runs, pl_module, base)
            base.release()
            if (found.mixed or found.misaligned) and (runs.draws or runs.writes):
                how = "draws random numbers" if runs.draws else "keeps statistics of its batches"
                runs.step = "validation_step"
                try:
                    base = runs.base()
                    again = sample_mixing(runs, pl_module, base)
                except NotJudged as error:
                    raise NotJudged(f"the step {how}, and may mix samples on purpose") from error
                if not (again.mixed or again.misaligned):
                    raise NotJudged(f"training_step {how} and mixes samples, and validation_step does not")
                if runs.switches and runs.draws:
                    raise NotJudged("the step switches to train mode itself, in which it draws random numbers")
                found = again
        self.session.observe(dataclasses.replace(found, at=moment(trainer)))

    def _future(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        with passes(trainer, pl_module, batch, batch_idx, limit=self._limit) as runs:
            found = future_leak(runs)
        if found is None:
            raise NotJudged("no sequence of the batch is predicted one step ahead")
        self.session.observe(dataclasses.replace(found, at=moment(trainer)))

    def _symmetry(self, trainer: Trainer, pl_module: LightningModule) -> None:
        alike, self._alike = self._alike, None
        if alike and self._shelf is not None:
            self._try(trainer, Initialisation, lambda: self._compare(trainer, pl_module, alike), 3)
        elif alike is not None:
            self.session.observe(Initialisation(at=moment(trainer), steps=trainer.global_step, signals=self._signals))

    def _compare(self, trainer: Trainer, pl_module: LightningModule, alike: dict[str, Tensor]) -> None:
        moved = any(item.shape == old.shape and bool((item != old).any()) for item, old in self._others)
        loss, found, woken = gradients(trainer, pl_module, *self._kept, tuple(alike))
        units = still_alike(pl_module, alike, found, woken)
        steps = trainer.global_step
        self.session.observe(
            Initialisation(
                at=moment(trainer), steps=steps, loss=loss, others_move=moved, alike=units, signals=self._signals
            )
        )
        self._others = []

    def _look(self, trainer: Trainer, pl_module: LightningModule, *, last: bool) -> None:
        if self._shelf is None or self._looked == self._batches:
            return
        if not (last or self._looked < 0 or may_look(self.session, self._price)):
            return
        self._looked, before = self._batches, self._spent
        self._try(trainer, InputDependence, lambda: self._dependence(trainer, pl_module, last), 3)
        if tracking_norms(pl_module):
            self._try(trainer, ModeGap, lambda: self._gap(trainer, pl_module, last), 3)
        self._price = self._spent - before

    def _dependence(self, trainer: Trainer, pl_module: LightningModule, last: bool) -> None:
        batch, index = self._kept
        usual_count(batch)
        with passes(trainer, pl_module, batch, index, limit=self._limit) as runs:
            base = runs.base()
            known = {"at": moment(trainer), "steps": trainer.global_step, "last": last}
            for found in input_dependence(runs, base, **known):
                lost = found.change <= ROUNDING * found.scale
                cause, unreached = where_lost(runs) if lost else (found.cause, found.unreached)
                self.session.observe(dataclasses.replace(found, cause=cause, unreached=unreached))
            base.release()

    def _gap(self, trainer: Trainer, pl_module: LightningModule, last: bool) -> None:
        batch, index = self._kept
        found = mode_gap(trainer, pl_module, batch, index, first_loss=self._first_loss, steps=self._batches, last=last)
        self.session.observe(dataclasses.replace(found, at=moment(trainer)))


def _size(batch: Any) -> int:
    try:
        return batch_size(batch)
    except Uncuttable:
        return 0


def _small_parameters(pl_module: LightningModule) -> list[Tensor]:
    small: list[Tensor] = [item for item in pl_module.parameters() if item.requires_grad and item.numel() <= 4096]
    return small[:16]
