"""StepWatch: follows a few steps from the batch to the first weights and to the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning_debug.callbacks._lightning import LightningModule, is_compiled
from lightning_debug.callbacks._look_budget import charge, may_look
from lightning_debug.callbacks._taps import Shadow, may_be_traced
from lightning_debug.evidence import Evidence, Hindrance, RunContext
from lightning_debug.evidence.data_values import ClassFit, FirstLayerInput, FitsOver, RegressionFit
from lightning_debug.experiments.clock import working_time
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.data_reach import ReachTrace
from lightning_debug.probes.step_turns import StepTurns
from lightning_debug.probes.trace import compiled_functions
from lightning_debug.schedule import Schedule, at, either, first
from lightning_debug.session import Session

PRODUCES: tuple[type[Evidence], ...] = (FirstLayerInput, RegressionFit, ClassFit, FitsOver)
LAYERS = first(3)
FITS = either(first(3), at(10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000))
EPOCHS = either(first(16), at(*(2**power for power in range(4, 16))))
"""Epochs in whose beginning the fit of predictions is looked at."""
LONG = 1000
"""Calls of torch in one step beyond which steps are followed less often: each call costs some 0.1 ms."""
LONG_FITS = at(0, 1, *(10**power for power in range(1, 6)))
LONG_EPOCHS = at(*(2**power for power in range(16)))
CALL = 1e-4
"""Seconds that following one call costs."""
ALWAYS = 1.0
"""Seconds that steps may be followed even where looks have used up what there was."""
BATCHES = 2
VALIDATED_IF_RARE = 32


class StepWatch:
    """Arranges for single steps to be watched; between them nothing is installed.

    Args:
        observe: Receives the evidence.
        guard: Called with what to do after a step, so that what raises there stays ours.
        session: Whose looks are charged with what following takes.
        turns: Learns what becomes of samples on their way to the net.
    """

    def __init__(
        self,
        observe: Callable[[Evidence], None],
        guard: Callable[[Callable[[], None]], None],
        session: Session | None = None,
        turns: StepTurns | None = None,
    ) -> None:
        self._observe, self._guard, self._session, self._turns = observe, guard, session, turns
        self._price = self._spent = 0.0
        self._shadow: Shadow | None = None
        self._steps = 0
        self._validations = -1
        self._calls = 0
        self.rare = False
        """Whether a class is so rare that more of the validation is looked at."""

    def train_batch(
        self, pl_module: LightningModule, batch: Any, index: int, epoch: int, known: Sequence[Field]
    ) -> None:
        """A training step is about to run."""
        self.release()
        step, self._steps = self._steps, self._steps + 1
        begins = index < self._batches and self._due(epoch, EPOCHS, LONG_EPOCHS)
        if begins or self._due(step, FITS, LONG_FITS) or self._is_last(step):
            self._watch(pl_module, "training_step", batch, index, known, layers=LAYERS(step))

    def validation_begins(self) -> None:
        """A validation is about to run."""
        self._validations += 1

    def validation_batch(self, pl_module: LightningModule, batch: Any, index: int, known: Sequence[Field]) -> None:
        """A validation step of the first loader is about to run."""
        self.release()
        if index < (VALIDATED_IF_RARE if self.rare else self._batches) and self._due(
            self._validations, EPOCHS, LONG_EPOCHS
        ):
            self._watch(pl_module, "validation_step", batch, index, known, layers=self._validations == 0)

    @property
    def _batches(self) -> int:
        """How many batches of an epoch are followed."""
        return BATCHES if self._calls <= LONG else 1

    def _due(self, count: int, often: Schedule, seldom: Schedule) -> bool:
        return (often if self._calls <= LONG else seldom)(count)

    def _is_last(self, step: int) -> bool:
        context = self._session.record.last(RunContext) if self._session is not None else None
        return context is not None and context.planned_steps == step + 1

    def over(self, *, broken_off: bool) -> None:
        """Training is over."""
        self.release()
        if self._steps:
            self._observe(FitsOver(broken_off=broken_off))

    def release(self) -> None:
        """Takes out what was put in."""
        if self._shadow is not None:
            self._shadow.remove()
            self._shadow = None

    def _watch(
        self, pl_module: LightningModule, name: str, batch: Any, index: int, known: Sequence[Field], *, layers: bool
    ) -> None:
        dear = self._spent + self._price > ALWAYS
        if dear and self._session is not None and not may_look(self._session, self._price):
            return
        if not may_be_traced(pl_module):
            return
        stage = "train" if name == "training_step" else "validate"

        def step(original: Any, *args: Any, **kwargs: Any) -> Any:
            self.release()
            if self._turns is not None:
                self._turns.expect(stage, (pl_module.current_epoch, index))
            watch = ReachTrace(pl_module, args[0] if args else kwargs.get("batch"), known, stage, self._turns)
            with watch:
                output = original(*args, **kwargs)
            self._calls = max(self._calls, watch.calls)
            begun = working_time()
            self._guard(lambda: self._tell(watch, layers))
            self._charge(working_time() - begun + CALL * watch.calls)
            return output

        self._shadow = Shadow(pl_module, name, step)

    def _charge(self, seconds: float) -> None:
        self._price = seconds
        self._spent += seconds
        if self._session is not None:
            charge(self._session, seconds)

    def _tell(self, watch: ReachTrace, layers: bool) -> None:
        watch.tell_labels()
        for evidence in (*(watch.layers if layers else ()), *watch.fits, *watch.classes):
            self._observe(evidence)
        if watch.error is not None:
            raise watch.error


def may_follow(epoch: int, index: int) -> bool:
    """Whether a step of the first epochs may be one that is followed; asked before, when its batch is read."""
    return index < BATCHES or (epoch == 0 and FITS(index))


def can_watch(pl_module: LightningModule) -> str:
    """Why steps cannot be watched; ``""`` if they can."""
    if is_compiled(pl_module) or compiled_functions(pl_module):
        return Hindrance("the model is compiled, and its steps cannot be watched from outside")
    return ""
