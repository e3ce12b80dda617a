"""NonFiniteGuard: NaN and Inf in input, loss, gradient and weights; clipping by norm and by value."""

from __future__ import annotations

import math
import os
from typing import Any, Literal, get_args

import torch

from lightning_debug.callbacks import _arguments
from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._guard_response import Policy
from lightning_debug.callbacks._guard_step import Clipping
from lightning_debug.callbacks._guard_validation import ValidationWatch
from lightning_debug.callbacks._guard_watch import Watch
from lightning_debug.callbacks._lightning import LightningModule, Trainer, report_folder
from lightning_debug.evidence.numbers import NonFiniteStep, SkipBudget, StepWindow, WeightsCheck
from lightning_debug.evidence.optimization import ScaledClipping

Action = Literal["warn", "skip", "rollback", "stop", "raise"]

KEY = "lightning_debug.NonFiniteGuard"
"""Where a checkpoint holds what a resumed run goes on from."""


class NonFiniteGuard(DebugCallback):
    """Watches for NaN and Inf in input, loss, gradient and weights, says where they began, and clips gradients.

    On the first bad step that batch is run again in isolation, and the batch field, or the module, the line and the
    operation that made the first bad value are named. A gradient scaler's ordinary skips are no fault.

    The gradient norm is computed once an optimizer step and serves the guard, the log and the clipping. On a CPU that
    is most of the price, so there it is taken now and then where nothing but the log needs it: with ``action="warn"``,
    no gradient scaler, no clipping of this callback, and more than 32768 trainable values. It is taken of the first 64
    batches (128 where the Trainer clips) and of every tenth after them. At the other steps a few rows of each gradient
    are looked at, and the whole of those that the loss's graph says may hold single bad values (a root or a division
    right at the parameter). If NaN, Inf or a jump to four times the usual shows there, the norm is taken at that step.

    With ``action="warn"`` nothing is read from the device that would make the host wait. The other actions must
    know before the update: one host read an optimizer step is their price (none where a gradient scaler decides).

    Clipping happens before the update, on the parameters of the optimizer that steps, and is bit for bit what
    ``torch.nn.utils.clip_grad_norm_`` does; a norm that is no number is never used to scale. It may be combined with
    the Trainer's ``gradient_clip_val``, which is applied after it.

    | what is logged | as |
    |---|---|
    | mean loss of 50 batches | ``loss`` (``loss_0``, ``loss_1`` with several backward passes a batch) |
    | median gradient norm of 50 batches, before clipping | ``gradient_norm`` (with an index for several optimizers) |

    Args:
        action: What to do about a step whose gradient is not finite. ``warn``: report it. ``skip``: also leave the
            step out, as if it had not been (gradients are taken away, so that momentum and weight decay stand
            still as well; running statistics of batch-norm are put back). ``rollback``: leave it out, and go back to
            the last good weights and optimizer states, a copy of which is kept on the device; schedules go on. All
            that was learned since that copy is lost: up to ``keep_every`` good steps.
            ``stop``: leave it out and end the fit. ``raise``: end it with ``FaultFound``.
        max_norm: Scale gradients down to this norm when theirs is larger. Default: no clipping.
        clip_value: Clamp every gradient value to ``[-clip_value, clip_value]``, after ``max_norm``. Default: none.
        norm_type: Order of the norm, 2 for the Euclidean one; ``inf`` for the largest magnitude.
        clip_quantile: Scale gradients down to this quantile of the norms of the run's last 512 steps (of each
            optimizer's own; 0.9: the norm that nine of ten steps stay below). ``max_norm`` may cap it. Checkpoints
            hold the norms, and a resumed run goes on from them. Default: no such clipping.
        clip_warm_up: After how many optimizer steps with a finite norm ``clip_quantile`` begins to clip.
        max_skips: How many steps ``skip`` or ``rollback`` may leave out in a fit; with one more
            training stops (LD312). Default: any number.
        keep_every: Optimizer steps from one copy of good weights to the next, for ``rollback``: so many good steps
            are lost at most when it goes back. A copy takes as long as reading and writing all weights and states.
        save_batch: Write the batch of a bad step, the weights it met and the random state to a file, and beside it a
            script that replays it. Of the first three bad steps, to the folder of the report.

    Raises:
        ValueError: If an argument is not accepted.
    """

    produces = (StepWindow, NonFiniteStep, WeightsCheck, SkipBudget, ScaledClipping)

    _watch: Watch | None = None
    _validation: ValidationWatch | None = None
    _delay: int = 0
    _resumed: dict[str, Any] | None = None

    def __init__(
        self,
        action: Action = "warn",
        max_norm: float | None = None,
        clip_value: float | None = None,
        norm_type: float = 2.0,
        clip_quantile: float | None = None,
        clip_warm_up: int = 100,
        max_skips: int | None = None,
        keep_every: int = 50,
        save_batch: bool = False,
    ) -> None:
        _arguments.chosen(get_args(Action), action=action)
        _arguments.positive(", or None for no clipping", max_norm=max_norm, clip_value=clip_value)
        if not (_arguments.is_above(norm_type) or norm_type == math.inf):
            _arguments.refuse("norm_type", norm_type, "give a number above 0, or inf")
        if clip_quantile is not None and not (_arguments.is_above(clip_quantile) and clip_quantile <= 1):
            _arguments.refuse("clip_quantile", clip_quantile, "give a share such as 0.9, or None")
        _arguments.whole(1, clip_warm_up=clip_warm_up, keep_every=keep_every)
        if max_skips is not None and not (_arguments.is_whole(max_skips, 0) and action in ("skip", "rollback")):
            _arguments.refuse("max_skips", max_skips, "give a whole number, with action='skip' or 'rollback'")
        _arguments.flags(save_batch=save_batch)
        self.action = action
        self.max_norm = max_norm
        self.clip_value = clip_value
        self.norm_type = float(norm_type)

        self.clip_quantile = clip_quantile
        self.clip_warm_up = clip_warm_up
        self.max_skips = max_skips
        self.keep_every = keep_every
        self.save_batch = save_batch
        self._state: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_watch", None)  # batches, events and pinned memory
        state.pop("_validation", None)
        return state

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the weights before the first step."""
        clipping = Clipping(self.max_norm, self.clip_value, self.norm_type, self.clip_quantile, self.clip_warm_up)
        folder = ""
        if self.save_batch:  # a collective: asked for on every rank
            folder = self.settings.report_dir or os.path.join(report_folder(trainer), "lightning_debug")
        policy = Policy(self.action, self.max_skips, self.keep_every, folder)
        self._watch = Watch(trainer, pl_module, self.session, policy, clipping, self._delay)
        self._state = {}
        if self._resumed is not None:
            self._watch.load(self._resumed)
            self._resumed = None
        self._validation = ValidationWatch(trainer, pl_module, self.session)
        self._watch.check_weights("start")
        if type(trainer.strategy).__name__ == "DeepSpeedStrategy":
            self.unavailable(NonFiniteStep, "DeepSpeed keeps gradients inside its engine", trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the norms behind ``clip_quantile``, and the steps counted for ``max_skips``; by default nothing."""
        state = self._watch.state() if self._watch is not None else self._state
        if state:
            checkpoint[KEY] = state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps what a checkpoint held for the fit that is about to start."""
        self._resumed = checkpoint.get(KEY)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keeps hold of the batch."""
        if self._watch is not None:
            self._watch.begin(batch_idx, batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Notes the loss, on its device."""
        if self._watch is not None:
            self._watch.backward(loss)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Takes the norm, decides about the step, and clips."""
        if self._watch is not None:
            self._watch.step(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes in the numbers that have arrived."""
        if self._watch is not None:
            self._watch.end(outputs)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes in what the validation before this has logged."""
        if self._watch is not None and self._validation is not None:
            self._validation.begin()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Looks at the batch, where the last validation's loss was not finite."""
        if self._watch is not None and self._validation is not None:
            self._validation.batch(batch, batch_idx, dataloader_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks for what the validation has logged."""
        if self._watch is not None and self._validation is not None:
            self._validation.end()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks whether the weights are finite."""
        if self._watch is not None:
            self._watch.ask_weights()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes in what is still on its way."""
        if self._watch is not None:
            self._watch.finish()
            self._state = self._watch.state()  # for a checkpoint that is written after this
            self._watch = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Takes in what is still on its way, and runs the step again if it raised over a bad value."""
        if self._watch is not None:
            watch, self._watch = self._watch, None
            watch.fail(exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the last batches."""
        self._watch = self._validation = None
