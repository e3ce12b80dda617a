"""The steps of the experiment on one or two examples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from lightning_debug.callbacks._lightning import LightningModule
from lightning_debug.evidence.overfit import OverfitCall, OverfitCheck, OverfitTrial
from lightning_debug.experiments._overfit_goal import Goal
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.isolation import Sandbox, Unrepeatable
from lightning_debug.experiments.loss_experiments import BrokenOff, NotJudged
from lightning_debug.probes.overfit_reading import ALIKE, FitTrace, Lost, read_fields
from lightning_debug.probes.overfit_steps import Adam, gradient_states

EXAMPLES = 2
RATES = (3e-2, 3e-3, 0.3, 3e-4)
"""Learning rates, in the order in which they are tried."""
TRIAL_STEPS, LONG_STEPS, WHOLE_STEPS = 28, 56, 14
"""Steps of a trial; of one more at the best rate; of each of two with the whole batch: 196 together."""
FLAT_STEPS, FLAT = 10, 1e-3
"""A trial ends where the loss of so many steps keeps within such a share of itself."""


@dataclass(frozen=True)
class Reading:
    """One step, read.

    Args:
        loss: What it returned.
        calls: The loss functions that it is made of.
        terms: How many summands it has.
        draws: Whether the step draws random numbers.
    """

    loss: Tensor
    calls: tuple[OverfitCall, ...]
    terms: int
    draws: bool


class _OutOfTime(Exception):
    """The budget is spent."""


class Attempt:
    """One run of the experiment inside an isolation.

    Args:
        sandbox: The isolation.
        pl_module: The module.
        parameters: Its trainable parameters.
        batch_idx: The index of the batch.
        deadline: When to give up, told what one step takes.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        pl_module: LightningModule,
        parameters: list[tuple[str, nn.Parameter]],
        batch_idx: int,
        deadline: Callable[[float], float],
    ) -> None:
        self._sandbox, self._module, self._parameters = sandbox, pl_module, parameters
        self._batch_idx, self._asked, self._deadline = batch_idx, deadline, deadline(0.0)
        self._steps = 0
        self._states: dict[str, str] = {}
        self._scale = 1024.0 if str(pl_module.trainer.precision).startswith("16") else 1.0

    def run(self, examples: Any, samples: int | None, batch: Any) -> OverfitCheck:
        """The whole experiment.

        Args:
            examples: What to fit.
            samples: How many there are.
            batch: The whole batch.

        Raises:
            NotJudged: If the step cannot be run again, or gives no loss.
        """
        examples, samples, first = self._first(examples, samples, batch)
        start, goal = float(first.loss.detach()), Goal.of(float(first.loss.detach()), first.calls, first.terms)
        found = OverfitCheck(
            samples=samples, start=start, calls=first.calls, terms=first.terms, draws=first.draws
        )  # fmt: skip
        if goal.reached(start):
            return dataclasses.replace(found, fits=True)
        if first.calls and not any(call.carries_gradient for call in first.calls):
            return found
        trials: list[OverfitTrial] = []
        after: tuple[OverfitCall, ...] = ()
        cut_short, blind = False, 0
        try:
            for trial, calls in self._trials(examples, samples, goal):
                trials.append(trial)
                found = dataclasses.replace(found, trials=tuple(trials), steps=self._steps)
                if trial.losses and goal.reached(min(trial.losses)):
                    return dataclasses.replace(found, fits=True)
                after = calls if found.best is trial else after
                blind += _is_blind(first.calls) and _is_blind(calls)
                if blind == len(trials) > 1 and any(_is_flat(one.losses) for one in trials):
                    break  # the output is the same for both, whatever the rate
            unreached = "some" not in self._states.values()  # by these two, which a clamp may hold at the same bound
            if (blind < len(trials) or unreached) and examples is not batch:
                trials += self._whole(batch)
        except _OutOfTime:
            cut_short = True
        found = dataclasses.replace(found, trials=tuple(trials), steps=self._steps, cut_short=cut_short)
        return found if cut_short else self._explained(found, examples, batch, after)

    def _explained(
        self, found: OverfitCheck, examples: Any, batch: Any, after: tuple[OverfitCall, ...]
    ) -> OverfitCheck:
        """What the debugging plan asks for, of examples that were not fitted."""
        path, kind = self._lost(examples, found.samples)
        states = list(self._states.values())
        return dataclasses.replace(
            found,
            calls=tuple(_with_after(call, after) for call in found.calls),
            steady=_is_steady(found, after),
            parameters=len(self._parameters),
            without_gradient=states.count("none"),
            zero_gradient=states.count("zero"),
            not_reached=tuple(name for name, state in self._states.items() if state != "some")[:6],
            fields=tuple(read_fields(batch)),
            lost_in=path,
            lost_type=kind,
        )

    def _step(self, batch: Any) -> Any:
        """One ``training_step``. What the user's code raises is no failure of ours: the run's own step tells of it."""
        try:
            return self._sandbox.training_step(batch, self._batch_idx)
        except (NotJudged, Unrepeatable, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise BrokenOff(f"training_step raises {type(error).__name__} when run again: {error}") from error

    def _first(self, examples: Any, samples: int | None, batch: Any) -> tuple[Any, int | None, Reading]:
        """Reads the first step; with the whole batch, where a step takes full ones only."""
        try:
            return examples, samples, self._start(examples, samples)
        except NotJudged as error:
            if examples is batch or not isinstance(error.__cause__, Exception):
                raise
        self._rewind()
        return self._first(batch, None, batch)

    def _start(self, batch: Any, samples: int | None) -> Reading:
        """Reads the first step, and which parameters its gradient reaches."""
        _without_dropout(self._module)
        first = self._read(batch, samples)
        if not first.loss.requires_grad:
            raise NotJudged("training_step returns a loss without a gradient")
        if not math.isfinite(float(first.loss.detach())):
            raise NotJudged("the loss is not finite")
        self._backward(first.loss)
        self._states = gradient_states(self._parameters)
        if "nonfinite" in self._states.values():
            raise NotJudged("a gradient is not finite")
        return dataclasses.replace(first, loss=first.loss.detach())

    def _read(self, batch: Any, samples: int | None) -> Reading:
        trace = FitTrace(self._module, batch)
        try:
            self._sandbox.reseed()
            with trace:
                loss = self._sandbox.loss(self._step(batch))
            if loss is None or loss.numel() != 1:
                raise NotJudged("training_step returns no loss")
            terms, draws = trace.terms(loss), trace.draws()
            return Reading(loss, trace.calls(loss, samples), terms, draws)
        finally:
            trace.release()

    def _trials(
        self, examples: Any, samples: int | None, goal: Goal
    ) -> Iterator[tuple[OverfitTrial, tuple[OverfitCall, ...]]]:
        """Trials at each rate, then a longer one at the best; each with the loss functions read at its end."""
        done: list[OverfitTrial] = []
        for rate in RATES:
            done.append(self._trial(examples, rate, TRIAL_STEPS, goal))
            yield done[-1], () if done[-1].diverged else self._read(examples, samples).calls
            if "some" not in self._states.values() and len(set(done[-1].losses)) == 1:
                return  # nothing moves, whatever the rate
        best = min(done, key=lambda trial: trial.end)
        if len(best.losses) > TRIAL_STEPS:  # it was not flat when its steps ended
            trial = self._trial(examples, best.rate, LONG_STEPS, goal)
            yield trial, () if trial.diverged else self._read(examples, samples).calls

    def _whole(self, batch: Any) -> list[OverfitTrial]:
        """Trials with the whole batch: what two examples lack may be in the others."""
        none = Goal(math.nan)
        return [dataclasses.replace(self._trial(batch, rate, WHOLE_STEPS, none), whole=True) for rate in RATES[:2]]

    def _trial(self, batch: Any, rate: float, steps: int, goal: Goal) -> OverfitTrial:
        """Steps at one rate from the run's own parameters."""
        self._rewind()
        adam = Adam([item for _, item in self._parameters], rate)
        losses: list[float] = []
        for step in range(steps + 1):
            began = working_time()
            if began > self._deadline:
                raise _OutOfTime
            self._sandbox.reseed()
            loss = self._sandbox.loss(self._step(batch))
            if loss is None:
                raise NotJudged("training_step returns a loss at times only")
            value = float(loss.detach())
            if not math.isfinite(value):
                return OverfitTrial(rate=rate, losses=tuple(losses), diverged=True)
            losses.append(value)
            if step == steps or not loss.requires_grad or goal.reached(value) or _is_flat(losses):
                break
            adam.clear()
            self._backward(loss)
            adam.step()
            self._steps += 1
            if self._steps == 2:  # the first one warms up
                self._deadline = self._asked(working_time() - began)
        return OverfitTrial(rate=rate, losses=tuple(losses))

    def _rewind(self) -> None:
        self._sandbox.rewind()
        _without_dropout(self._module)

    def _backward(self, loss: Tensor) -> None:
        with torch.enable_grad():
            total = (loss * self._scale).sum()
        try:
            torch.autograd.backward(total)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # a graph that the step before has freed: the run's own step tells of it
            raise BrokenOff(f"backward raises {type(error).__name__}: {str(error).splitlines()[0]}") from error

    def _lost(self, batch: Any, samples: int | None) -> tuple[str, str]:
        """Where the examples become alike on their way through the model, at the run's own parameters."""
        if not samples or samples < EXAMPLES:
            return "", ""
        self._rewind()
        self._sandbox.reseed()
        lost = Lost({id(module): name for name, module in self._module.named_modules()}, samples)
        handle = register_module_forward_hook(lost)
        try:
            self._step(batch)
        finally:
            handle.remove()
        return lost.path, lost.kind


def _is_blind(calls: tuple[OverfitCall, ...]) -> bool:
    """Whether examples with different targets get the same output."""
    return bool(calls) and all(
        call.floor is not None and call.targets_differ and call.spread is not None and call.spread <= ALIKE
        for call in calls
    )


def _is_flat(losses: Sequence[float]) -> bool:
    """Whether the latest losses are all about the same."""
    last = losses[-FLAT_STEPS:]
    return len(losses) >= 2 * FLAT_STEPS and max(last) - min(last) <= FLAT * abs(last[-1])


def _without_dropout(pl_module: LightningModule) -> None:
    """Switches dropout layers off; the isolation switches them on again."""
    for module in pl_module.modules():
        if module.training and "dropout" in type(module).__name__.lower():
            module.training = False


def _with_after(call: OverfitCall, after: tuple[OverfitCall, ...]) -> OverfitCall:
    """A call with what became of it."""
    later = next((item for item in after if (item.function, item.line) == (call.function, call.line)), None)
    if later is None:
        return call
    return dataclasses.replace(
        call, after=later.value, spread_after=later.spread, lowest=later.lowest, highest=later.highest
    )


def _is_steady(found: OverfitCheck, after: tuple[OverfitCall, ...]) -> bool:
    """Whether the loss stayed in proportion to what its known functions cost together."""
    if not after or found.best is None or len(found.calls) != len(after):
        return False
    sums = [sum(call.value for call in calls) for calls in (found.calls, after)]
    if min(sums) <= 0 or len(found.calls) != 1:
        return found.terms == len(found.calls)
    return math.isclose(found.start / sums[0], found.best.losses[-1] / sums[1], rel_tol=0.05)
