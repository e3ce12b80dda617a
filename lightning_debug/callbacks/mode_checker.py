"""ModeChecker: is every module in the mode it should be in, and if not, who left it there?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, get_args

from lightning_debug.callbacks import _arguments
from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import (
    LightningModule,
    Trainer,
    batches_seen,
    callbacks_of,
    captured_modes,
    is_compiled,
    moment,
    steps_are_compiled,
)
from lightning_debug.callbacks._look_budget import looking
from lightning_debug.callbacks._mode_run import ModeRun
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.modes import DropoutInEval, FrozenBatchNorms, TrainingModes, ValidationModes
from lightning_debug.experiments.dropout_in_eval import dropout_in_eval
from lightning_debug.experiments.isolation import Unrepeatable, in_sandbox
from lightning_debug.finding import FaultFound, Finding
from lightning_debug.probes.mode_causes import UserHooks
from lightning_debug.probes.mode_history import Mark
from lightning_debug.probes.train_calls import TrainCalls
from lightning_debug.probes.training_audit import TrainingAudit
from lightning_debug.probes.validation_audit import ValidationAudit

Action = Literal["warn", "fix", "raise"]
Step = Literal["training_step", "validation_step"]
HOOK_CALLERS = ("/trainer/call.py",)  # Lightning's file from which every hook of the user's is called
WATCHED = 3  # in how many first steps, validations and epochs' ends calls of train() and eval() are watched
MENDED = (TrainingModes, ValidationModes)
AMID = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


class ModeChecker(DebugCallback):
    """Finds modules that train in eval mode or validate in train mode, and says who left them there, and when.

    Dropout, batch-norm and their kin compute something else in eval mode than in train mode. Lightning never calls
    ``.train()``, and puts back after each validation whatever modes it found before it. So one ``.eval()`` too many
    (in a metric, a sampling method, ``from_pretrained``) silently switches regularisation off for good.

    A module counts only if its mode matters and it takes part: it was called in eval mode with gradients enabled,
    a gradient came back through it, and an optimizer stepped on the parameters it acts on. Frozen networks,
    teachers, baselines and batch-norms kept in eval on purpose are left alone.

    - LD401: modules in eval mode during training
    - LD402: modules in train mode during validation or test
    - LD403: batch-norm with frozen weights whose running statistics go on drifting
    - LD404: dropout that ignores the mode (``F.dropout(x, 0.5)`` without ``training=self.training``)

    It looks closely at the first few steps, at the first step after a validation or a change, and then rarely.

    Args:
        action: What to do about modules in the wrong mode. ``warn``: report them. ``fix``: report them and put
            them into the right mode, the culprits only. ``raise``: stop with ``FaultFound``.

    Raises:
        ValueError: If ``action`` is none of these.
    """

    produces: ClassVar[tuple[type[Evidence], ...]] = (TrainingModes, ValidationModes, FrozenBatchNorms, DropoutInEval)

    _run: ModeRun | None = None

    def __init__(self, action: Action = "warn") -> None:
        _arguments.chosen(get_args(Action), action=action)
        self.action = action

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the first look, before the module's own ``setup``."""
        self._end()
        if trainer.barebones:
            return
        calls = TrainCalls(HOOK_CALLERS, in_sandbox, enabled=not steps_are_compiled(pl_module))
        hooks, compiled = UserHooks(lambda: (*callbacks_of(trainer), pl_module)), is_compiled(pl_module)
        training = TrainingAudit(pl_module, calls, hooks=hooks, compiled=compiled, ignore=in_sandbox)
        validation = ValidationAudit(pl_module, calls, hooks=hooks, compiled=compiled, ignore=in_sandbox)
        self._run = ModeRun(calls, training, validation)
        if getattr(stage, "value", stage) == "fit":
            training.look(_mark(trainer, "setup"))
            calls.start()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes a look after ``setup`` and ``configure_model``."""
        self._look(trainer, "on_fit_start")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes a look after ``on_fit_start`` and the sanity check."""
        if self._run is not None:
            self._run.training.restored = captured_modes(trainer) is not None and bool(trainer.num_val_batches)
        self._look(trainer, "on_train_start")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes a look after the hooks between epochs."""
        if self._run is None:
            return
        self._run.epoch = trainer.current_epoch
        if trainer.current_epoch < WATCHED:
            self._look(trainer, "on_train_epoch_start")
            self._run.training.once_more()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Looks at the modes that the step begins with."""
        run = self._run
        if run is None:
            return
        looks = run.training.begin(run.steps, Mark("on_train_batch_start", run.epoch, batches_seen(trainer)))
        if looks or not self._resting:
            self.rest(*(() if looks else AMID))
        if run.in_eval:
            run.training.mend(run.in_eval & run.training.history.left.keys())

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        """Looks at the modes that ``training_step`` leaves."""
        if self._run is not None and self._run.training.active:
            self._run.training.middle(_mark(trainer, "on_before_backward"))

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has parameters bear witness where calls cannot."""
        if self._run is not None:
            self._run.training.backward_done()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Notes whose parameters are stepped on."""
        if self._run is not None:
            self._run.training.stepping([optimizer])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Judges the step, when it was looked at."""
        run = self._run
        if run is None:
            return
        mark = Mark("on_train_batch_end", run.epoch, batches_seen(trainer))
        self._tell(trainer, run.training.end(mark), batch_idx)
        if not run.training.drift.is_over:
            self._tell(trainer, run.training.drift.evidence(run.steps), batch_idx)
        if run.steps == 0 and not trainer.num_val_batches:
            self._look_for_dropout(trainer, pl_module, batch, "training_step")
        run.steps += 1
        if run.steps >= WATCHED and run.calls.running and not run.training.wants_calls:
            run.calls.stop()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watches who calls ``eval()`` between the first epochs."""
        if self._run is not None and trainer.current_epoch < WATCHED:
            self._run.calls.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judges what was waiting for more steps."""
        if (run := self._run) is None:
            return
        if run.steps:
            self._tell(trainer, run.training.finish())
        self._tell(trainer, run.training.drift.evidence(run.steps, last=True))
        if not self.session.record.seen(ValidationModes):
            self.unavailable(ValidationModes, "no validation ran", trainer)
        if not run.dropout_looked:
            self.unavailable(DropoutInEval, "no validation ran", trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the modes that Lightning noted, and gets ready to look at the first batches."""
        run = self._run
        if run is None:
            return
        modes = captured_modes(trainer)
        if trainer.state.fn == "fit" and modes is not None:
            run.training.look(_mark(trainer, "capture"), modes)
            run.training.once_more()
        self._validation_begins()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gets ready to look at the first batches."""
        self._validation_begins()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Looks at the modes that the batch begins with."""
        run = self._run
        if run is None:
            return
        if trainer.state.fn == "fit" and not run.dropout_looked:
            self._look_for_dropout(trainer, pl_module, batch, "validation_step")
        run.validation.begin(run.batches)
        if run.in_train:
            run.validation.mend(run.in_train)

    on_test_batch_start = on_validation_batch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Judges the batch, when it was looked at."""
        run = self._run
        if run is None:
            return
        run.batches += 1
        self._tell(trainer, run.validation.end(_mark(trainer, "on_validation_batch_end")), batch_idx)

    on_test_batch_end = on_validation_batch_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Takes all instruments out, and records what was held back."""
        if self._run is not None and self._run.steps and (found := self._run.training.finish()) is not None:
            self.session.observe(dataclasses.replace(found, at=moment(trainer)))
        self._end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes all instruments out."""
        self._end()

    def _look(self, trainer: Trainer, hook: str) -> None:
        if self._run is not None:
            self._run.training.look(_mark(trainer, hook))

    def _validation_begins(self) -> None:
        if (run := self._run) is None:
            return
        run.batches = 0
        run.validation.start()
        if run.validation.index < WATCHED:
            run.calls.clear()
            run.calls.start()

    def _tell(self, trainer: Trainer, evidence: Evidence | None, batch: int | None = None) -> None:
        """Records evidence, if there is any, and acts on what is found in it."""
        run = self._run
        if evidence is None or run is None:
            return
        changes: dict[str, Any] = {"fixed": True} if self.action == "fix" and isinstance(evidence, MENDED) else {}
        self.session.observe(dataclasses.replace(evidence, at=moment(trainer, batch), **changes))
        if self.action == "warn":
            return
        report = self.session.judge()
        own = {one.code for one in self.rules()}
        mine = tuple(item for item in report.findings if item.code in own)
        if self.action == "raise" and mine:
            raise FaultFound(dataclasses.replace(report, findings=mine))
        run.in_eval |= _modules(mine, "LD401")
        run.in_train |= _modules(mine, "LD402")
        if isinstance(evidence, TrainingModes):
            run.training.mend(run.in_eval & run.training.history.left.keys())
        elif isinstance(evidence, ValidationModes):
            run.validation.mend(run.in_train)

    def _look_for_dropout(self, trainer: Trainer, pl_module: LightningModule, batch: Any, step: Step) -> None:
        """Runs one isolated step in eval mode if the model's code mentions dropout as a function."""
        run = self._run
        if run is None or run.dropout_looked:
            return
        run.dropout_looked = True
        try:
            with looking(self.session):
                found = dropout_in_eval(trainer, pl_module, batch, step)
            self._tell(trainer, found)
        except Unrepeatable as error:
            self.unavailable(DropoutInEval, str(error), trainer)

    def _end(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.training.close()
            run.validation.close()
            run.calls.stop()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_run", None)  # holds the model
        return state


def _modules(findings: Iterable[Finding], code: str) -> frozenset[str]:
    return frozenset(path for item in findings if item.code == code for path in item.measured.get("modules", ()))


def _mark(trainer: Trainer, hook: str) -> Mark:
    return Mark(hook, trainer.current_epoch, batches_seen(trainer))
