"""LossInspector: what reaches the loss."""

from __future__ import annotations

from typing import Any

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.callbacks._look_budget import charge, looking, may_begin, may_look
from lightning_debug.callbacks._loss_checks import PRODUCES, LossChecks
from lightning_debug.callbacks._taps import Shadow, may_be_traced
from lightning_debug.evidence.loss import LossGraph
from lightning_debug.experiments._surroundings import uncollected
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable, in_eager, isolated, offload_of
from lightning_debug.probes.loss_graph import loss_graph
from lightning_debug.probes.loss_trace import LossTrace
from lightning_debug.schedule import at, either, first

LIVE = either(first(3), at(50, 500, 5000))
AGAIN = at(0, 50)

CALL = 6e-5
"""Seconds by which watching a call of torch's makes it longer: the step itself is made anyway."""


class LossInspector(DebugCallback):
    """Looks at a few steps to see what becomes the loss, from which values, and by which calls.

    It watches the run's own ``training_step`` on the first steps, then rarely, and once in the second epoch; after the
    first, as far as the run is long enough to bear it. Where
    the model is compiled, or computes otherwise while it is watched, it runs the step a second time in isolation
    instead, as it does once with ``validation_step``. The run itself is not changed.

    Records :class:`~lightning_debug.evidence.loss.LossGraph`.
    """

    produces = (LossGraph, *PRODUCES)

    _shadow: Shadow | None = None
    _batches: int = 0
    _price: float = 0.0
    _second_epoch: int | None = None
    _validated: bool = False
    _checks: LossChecks | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins anew."""
        self._checks = LossChecks(self)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts counting."""
        self._batches, self._validated = 0, False
        self._second_epoch = trainer.current_epoch + 1
        if self._checks is not None:
            self._checks.on_train_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Arranges for the coming step to be watched, on the steps that are."""
        if self._shadow is not None:
            self._release()
        if self._checks is not None:
            self._checks.on_train_batch_start(trainer, pl_module, batch, batch_idx)
        step, self._batches = self._batches, self._batches + 1
        again = self._second_epoch is not None and trainer.current_epoch == self._second_epoch
        if again:
            self._second_epoch = None
        if not (LIVE(step) or again) or (step and not may_look(self.session, self._price)):
            return
        if may_be_traced(pl_module):
            self._watch(trainer, pl_module)
        elif AGAIN(step) or again:
            self._replay(trainer, pl_module, "training_step", batch, batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends what watched the step."""
        if self._checks is not None:
            self._checks.on_train_batch_end(trainer, pl_module, batch, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judges what was gathered, where the run was short."""
        if self._checks is not None:
            self._checks.on_train_end(trainer, pl_module)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Runs the first validation batch of a fit in isolation, under observation."""
        if self._checks is not None:
            self._checks.on_validation_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        if self._validated or trainer.sanity_checking or getattr(trainer.state.fn, "value", "") != "fit":
            return
        self._validated = True
        if may_begin(self.session, passes=1):
            self._replay(trainer, pl_module, "validation_step", batch, batch_idx, dataloader_idx)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ends what watched the step."""
        if self._checks is not None:
            self._checks.on_validation_batch_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the module as it was."""
        self._release()
        self._end_checks()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the module as it was."""
        self._release()
        self._end_checks()

    def _end_checks(self) -> None:
        if self._checks is not None:
            self._checks.close()
            self._checks = None

    def _release(self) -> None:
        if self._shadow is not None:
            self._shadow.remove()
            self._shadow = None

    def _watch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def step(original: Any, *args: Any, **kwargs: Any) -> Any:
            self._release()
            trace = LossTrace(pl_module, args[0] if args else kwargs.get("batch"))
            with trace:
                output = original(*args, **kwargs)
            begun = working_time()
            with self.attempt("reading what reached the loss", trainer):
                self._observe(trainer, trace, Sandbox.loss(output), live=True)
            self._price = working_time() - begun + CALL * len(trace.ops)
            charge(self.session, self._price)
            return output

        self._shadow = Shadow(pl_module, "training_step", step)

    def _replay(self, trainer: Trainer, pl_module: LightningModule, step: str, batch: Any, *indices: int) -> None:
        try:
            with (
                looking(self.session),
                in_eager(pl_module),
                uncollected(),
                isolated(trainer, pl_module, offload=offload_of(pl_module)) as sandbox,
            ):
                trace = LossTrace(pl_module, batch)
                try:
                    with trace:
                        output = getattr(sandbox, step)(batch, *indices)
                except Exception:  # the run's own step will raise it where the user can see it
                    return
                self._observe(trainer, trace, sandbox.loss(output), live=False, step=step)
        except Unrepeatable as refused:
            if step == "training_step":
                self.unavailable(LossGraph, str(refused), trainer)

    def _observe(self, trainer: Trainer, trace: LossTrace, loss: Any, **known: Any) -> None:
        try:
            self.session.observe(loss_graph(trace, loss, at=moment(trainer), **known))
            if trace.errors:
                raise trace.errors[0]
        finally:
            trace.release()
