"""ErrorExplainer: exceptions of the user's program turned into an explanation, and some foretold."""

from __future__ import annotations

from typing import Any

from lightning_debug.callbacks import _arguments
from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._error_foretold import batch_too_large, indices_out_of_range, smaller_batch
from lightning_debug.callbacks._error_inquiry import Held, explain
from lightning_debug.callbacks._error_monitor import with_logged
from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.callbacks._look_budget import looking, may_begin
from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import FaultFound

_NOT_OURS = ("MisconfigurationException", "FaultFound", "_TunerExitException", "SIGTERMException", "Exit")


class ErrorExplainer(DebugCallback):
    """Explains what a step raises: the line, the module, the tensors that met, the shapes on the way, and the edit.

    The exception itself goes on its way unchanged. Nothing is installed on a step that does not raise: only the batch
    is held by reference while its step runs, and the step that raised is run again, in isolation, under watch. Where
    it cannot be run again (out of memory, a device that no longer answers, several ranks) the explanation is made
    from the exception's own frames, and says what it lacks.

    Some errors are told before they cost anything: before the first step, one step is run in isolation on as many
    samples as the smaller last batch of the epoch will have; on a GPU the first step is run in isolation with class
    and vocabulary indices checked, because there an index out of range takes the whole process with it, and a few
    samples are measured to tell whether the whole batch can fit.

    Args:
        foretell: Whether to make those experiments before the first step.
    """

    produces = (ErrorRaised,)

    _held: Held | None = None
    _asked: frozenset[str] = frozenset()
    _validated: bool = False

    def __init__(self, foretell: bool = True) -> None:
        _arguments.flags(foretell=foretell)
        self.foretell = foretell

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_held", None)
        return state

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins anew."""
        self._held, self._asked, self._validated = None, frozenset(), False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Holds the batch; makes the experiments before the first step."""
        self._begin(trainer, pl_module, Held("training_step", batch, batch_idx))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lets go of the batch."""
        self._held = None

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Holds the batch; makes the experiment before the first step of a fit's validation."""
        self._begin(trainer, pl_module, Held("validation_step", batch, batch_idx, dataloader_idx))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lets go of the batch."""
        self._held = None
        self._validated = self._validated or not trainer.sanity_checking

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Holds the batch."""
        self._held = Held("test_step", batch, batch_idx, dataloader_idx)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lets go of the batch."""
        self._held = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Explains it."""
        held, self._held = self._held, None
        named = {kind.__name__ for kind in type(exception).__mro__}
        if not isinstance(exception, Exception) or isinstance(exception, FaultFound):
            return
        if named.intersection(_NOT_OURS) and ErrorRaised(message=str(exception)).wanted is None:
            return
        with self.attempt("explaining", trainer):
            told = explain(trainer, pl_module, exception, held)
            self.session.observe(with_logged(told, trainer, pl_module, validated=self._validated))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of everything."""
        self._held = None

    def _begin(self, trainer: Trainer, pl_module: LightningModule, held: Held) -> None:
        self._held = held
        if not self.foretell or held.step in self._asked or getattr(trainer.state.fn, "value", "") != "fit":
            return
        self._asked |= {held.step}
        if not self.session.settings.experiment_seconds:
            return
        for experiment in (indices_out_of_range, smaller_batch, batch_too_large):
            if experiment is smaller_batch and not may_begin(self.session, passes=2):
                continue
            with self.attempt(experiment.__name__, trainer), looking(self.session):
                told = experiment(trainer, pl_module, held)
                if told is not None:
                    self.session.observe(told)
                    return
