"""LRRangeFinder: a learning-rate range test inside the fit, which goes on as if it had not been made."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator
from typing import Any

from lightning_debug.callbacks import _arguments, _ranks
from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._experiment_budget import remaining, spending, spent
from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_fast_dev_run, moment
from lightning_debug.callbacks._lightning_data import Batches, BufferedBatches, NotDrawable, training_batches
from lightning_debug.callbacks._lr_apply import apply_rate
from lightning_debug.callbacks._lr_early import EarlyWatch
from lightning_debug.callbacks._lr_experiment import Experiment, NoLoss, NotTried, StepFailed, run_experiment
from lightning_debug.callbacks._lr_show import Progress, show
from lightning_debug.evidence import Hindrance, ProbeFailure
from lightning_debug.evidence.lr_range import EarlyLosses, LRRange
from lightning_debug.experiments._surroundings import silence
from lightning_debug.experiments.isolation import Unrepeatable, isolated
from lightning_debug.experiments.lr_trials import Plan
from lightning_debug.session import failure

KEEP = 0.3
"""Share of the experiments' time that is left to the other ones."""

GRACE = 2.5
"""Seconds beyond that share which the proof may take where a first trial leaves a doubt."""

_UNSUITED = ("LBFGS", "Prodigy", "DAdapt", "SAM", "Rprop")
"""Optimizers that step otherwise, or find their learning rate themselves."""


_SECOND = "through the graph a second time"
"""What torch says where a state is carried from batch to batch, and a hook that is not run again detaches it."""


class LRRangeFinder(DebugCallback):
    """Finds the range of learning rates in which training works, and judges the one in use.

    Several short sweeps over learning rates give the range; short trainings inside it, each through the run's whole
    schedule, give the suggestion. All of it runs when training starts, in place, on private batches of the training
    set, and is undone bit for bit. Loaders that only yield batches in turn are followed for a few batches first, and so
    are steps that raise before any was made. None is made, which it says, for models sharded over ranks and optimizers
    without a rate to sweep, such as LBFGS.
    Inside ``Debugger`` it keeps to ``experiment_seconds`` and to a small share of the planned training: mostly a few
    trials at the learning rate in use and far from it.

    The result is printed and drawn to the logger's folder. In code, ``finder.session.record.of(LRRange)`` holds one
    :class:`~lightning_debug.evidence.lr_range.LRRange` for each optimizer, with ``lr_min``, ``lr_max``, ``suggestion``.

    Args:
        lr_min: Lowest learning rate of a sweep.
        lr_max: Highest learning rate of a sweep.
        steps: Optimizer steps of a sweep; at least 10.
        sweeps: Sweeps that are pooled.
        trial_steps: Steps of a trial, a short training at one rate; never more than the run has.
        seconds: How long all of it may take. Default: as long as it takes, inside ``Debugger`` a share of its budget.
        apply: Whether to train with the suggestion: sets optimizer, schedulers, ``self.lr``, ``self.hparams.lr``.
        progress: Whether to show a progress bar.
        at_step: Before which batch of the fit to make the experiment, counted from 0 where the fit begins.

    Raises:
        ValueError: If an argument is not accepted.
    """

    produces = (LRRange, EarlyLosses)

    _buffer: BufferedBatches | None = None
    _early: EarlyWatch | None = None
    _resumed: bool = False
    _batches: int = 0
    _suspect: ProbeFailure | None = None

    def __init__(
        self,
        lr_min: float = 1e-7,
        lr_max: float = 10.0,
        steps: int = 100,
        sweeps: int = 3,
        trial_steps: int = 300,
        seconds: float | None = None,
        apply: bool = False,
        progress: bool = True,
        at_step: int = 0,
    ) -> None:
        _arguments.positive(lr_min=lr_min, lr_max=lr_max)
        if lr_min >= lr_max:
            _arguments.refuse("lr_min", lr_min, f"give a learning rate below lr_max={lr_max!r}")
        _arguments.whole(10, steps=steps, trial_steps=trial_steps)
        _arguments.whole(1, sweeps=sweeps)
        _arguments.whole(0, at_step=at_step)
        _arguments.positive(", or None for as long as it takes", seconds=seconds)
        _arguments.flags(apply=apply, progress=progress)
        self.at_step, self.seconds = at_step, seconds
        self._plan = Plan(float(lr_min), float(lr_max), int(steps), int(sweeps), int(trial_steps))
        self._apply, self._progress = apply, progress
        self.results: list[LRRange] = []
        """What was found in this fit, by optimizer."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the fit before."""
        self._started, self._suspect = False, None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so if there was nothing to train on."""
        if not self._started:
            self._refuse(Hindrance("there are no training batches, or training was over before"), trainer)
        if self._suspect is not None:  # training itself did not raise
            self.session.observe(self._suspect)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the experiment, or arranges for it where batches cannot be drawn."""
        self._started = True
        self.results, self._buffer, self._early, self._batches = [], None, EarlyWatch(pl_module), 0
        self.session.observe(EarlyLosses(at=moment(trainer), optimizers=len(trainer.optimizers)))
        self._resumed = bool(trainer.ckpt_path) or trainer.global_step > 0
        if not self.at_step:
            self._begin(trainer, pl_module)

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if reason := self._hindrance(trainer):
            self._refuse(reason, trainer)
            return
        try:
            batches = training_batches(trainer, pl_module)
        except NotDrawable as error:
            if trainer.world_size > 1 or trainer.train_dataloader is None:
                self._refuse(error.reason, trainer)
            else:
                self._buffer = BufferedBatches()
            return
        except Exception as error:  # a data set that cannot even say how long it is
            self._refuse(Hindrance(f"the training set raises {type(error).__name__}: {error}"), trainer)
            return
        self._experiment(trainer, pl_module, batches)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Follows the first batches where that is needed, and begins amid the training where that is asked for."""
        step, self._batches = self._batches, self._batches + 1
        if self.at_step and step == self.at_step:
            self._begin(trainer, pl_module)
        if (buffer := self._buffer) is not None and not self._gather(trainer, batch):
            self._buffer = None
            self._experiment(trainer, pl_module, buffer)
        if self._early is not None:
            self._early.on_train_batch_start(trainer, pl_module)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        """Follows the first losses of steps that are made by hand."""
        if self._early is not None and not pl_module.automatic_optimization:
            self._early.on_before_backward(loss)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follows the first losses."""
        if self._early is not None:
            self._early.on_train_batch_end(trainer, outputs)
            if self._early.done:
                self._tell_early(trainer)
        elif self._buffer is None and not self.at_step:
            self.rest("on_train_batch_start", "on_before_backward", "on_train_batch_end")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what was seen of a short run."""
        self._tell_early(trainer)
        if self._batches <= self.at_step and self.at_step:
            self._refuse(Hindrance(f"training ended before step {self.at_step}"), trainer)
        if self._buffer is not None:
            self._refuse(Hindrance("the run was over before enough batches had passed by"), trainer)
        self._buffer = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Says what was seen until then."""
        self._buffer = None
        with contextlib.suppress(RuntimeError):  # a device that is out of order
            self._tell_early(trainer)

    def _tell_early(self, trainer: Trainer) -> None:
        early, self._early = self._early, None
        if early is not None and (found := early.evidence(trainer)) is not None:
            self.session.observe(dataclasses.replace(found, at=moment(trainer)))

    def _gather(self, trainer: Trainer, batch: Any) -> bool:
        """Keeps a batch; whether more are needed."""
        assert self._buffer is not None
        try:
            self._buffer.add(batch)
        except NotDrawable as error:
            self._buffer = None
            self._refuse(error.reason, trainer)
            return True
        boundary = (trainer.fit_loop.epoch_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0
        return not (self._buffer.full and boundary)

    def _hindrance(self, trainer: Trainer) -> str:
        """Why no experiment is made; empty if one is."""
        if is_fast_dev_run(trainer):
            return "fast_dev_run only tries the code out"
        if not trainer.optimizers:
            return "there is no optimizer"
        if _ranks.is_sharded(trainer):
            return "the model is sharded over ranks"
        if self._hosted and remaining(self.session) <= 0:
            return Hindrance("there is no time for it (experiment_seconds)")
        return ""

    def _refuse(self, reason: str, trainer: Trainer) -> None:
        self.unavailable(LRRange, reason, trainer)
        if not self._hosted and trainer.global_rank == 0:
            warnings.warn(f"LRRangeFinder makes no experiment: {reason}", stacklevel=2)

    def _experiment(self, trainer: Trainer, pl_module: LightningModule, batches: Batches) -> None:
        with spending(self.session), self.attempt("the learning-rate experiment", trainer):
            for index, optimizer in enumerate(trainer.optimizers):
                kind = type(optimizer).__name__
                if any(word in kind for word in _UNSUITED):
                    self._refuse(f"{kind} has no learning rate that could be swept", trainer)
                    continue
                try:
                    self._try_one(trainer, pl_module, batches, index)
                except (NotTried, NoLoss) as error:
                    self._refuse(error.reason, trainer)
                except (Unrepeatable, StepFailed) as error:
                    steps = getattr(error, "steps", None)
                    if steps == 0 and not self._batches:  # what a hook of the model sets may not be there yet
                        self._buffer = BufferedBatches()
                        return
                    self._refuse(str(error), trainer)
                    if steps and _SECOND not in str(error):  # it went well at first: that may be our doing
                        self._suspect = failure("LRRangeFinder: a step of the experiment", error, moment(trainer))
                    return

    def _try_one(self, trainer: Trainer, pl_module: LightningModule, batches: Batches, index: int) -> None:
        still = len(trainer.optimizers) - index  # optimizers that share what is left
        with self._bar(trainer, index) as bar:
            asked = Experiment(
                plan=self._plan,
                seconds=lambda step: (
                    remaining(self.session, step, keep=KEEP) / still if self._hosted else self.seconds or math.inf
                ),
                grace=lambda: max(
                    0.0, min(GRACE, (self.session.settings.experiment_seconds - spent(self.session)) / still)
                ),
                progress=bar,
                thorough=not self._hosted,
                resumed=self._resumed,
            )
            with silence(), isolated(trainer, pl_module, updates=True, also=batches.reads, together=True) as sandbox:
                found, _ = run_experiment(trainer, pl_module, sandbox, batches, index, asked)
        wanted = found.suggestion
        if self._apply and wanted is not None and not math.isclose(wanted, found.in_use, rel_tol=1e-3):
            apply_rate(trainer, pl_module, trainer.optimizers[index], found.in_use, wanted)
            found = dataclasses.replace(found, applied=True)
        found = dataclasses.replace(found, at=moment(trainer))
        self.results.append(found)
        self.session.observe(found)
        if not self._hosted or found.curve_lrs:
            with self.attempt("showing the learning-rate range", trainer):
                show(found, trainer, self.session.settings, console=not self._hosted)

    @contextlib.contextmanager
    def _bar(self, trainer: Trainer, index: int) -> Iterator[Progress]:
        wanted = self._progress and not self._hosted and trainer.global_rank == 0
        name = f"Learning rate of optimizer {index}" if len(trainer.optimizers) > 1 else "Learning rate"
        bar = Progress(name, wanted)
        try:
            yield bar
        finally:
            bar.close()
