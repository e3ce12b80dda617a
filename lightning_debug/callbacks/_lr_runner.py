"""A training run as the learning-rate search wants it: steps in a sandbox, on private batches, on every rank alike."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase

from lightning_debug.callbacks import _ranks
from lightning_debug.callbacks._lightning import LightningModule, Trainer
from lightning_debug.callbacks._lightning_data import Batches
from lightning_debug.callbacks._lr_hearing import Hearing
from lightning_debug.callbacks._lr_schedule import set_rates
from lightning_debug.experiments._surroundings import random_state, set_random_state
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.hindrance import Hindering
from lightning_debug.experiments.isolation import Sandbox

MOST_BATCHES = 64
"""Batches in which a user's own step is given the time to step the optimizer once."""


class NoLoss(Exception):
    """The training step returns nothing that could be followed.

    Args:
        reason: Half a sentence that can follow "not judged, because".
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StepFailed(Hindering):
    """The user's step, or the reading of a batch, raises.

    Args:
        error: What it raised.
        steps: How many steps went well before.
    """

    def __init__(self, error: Exception, steps: int) -> None:
        self.error, self.steps = error, steps
        super().__init__(f"training_step raises {type(error).__name__} when run again: {error}")


class SandboxRunner:
    """Runs one optimizer at given learning rates; others stay at theirs.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module.
        sandbox: Where to run.
        batches: What to run on.
        index: Which optimizer.
        ratios: Share of the learning rate, by parameter group.
    """

    def __init__(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        sandbox: Sandbox,
        batches: Batches,
        index: int,
        ratios: tuple[float, ...],
    ) -> None:
        self._trainer, self._module, self._sandbox, self._batches = trainer, pl_module, sandbox, batches
        self._optimizer: Any = trainer.optimizers[index]
        self._ratios = ratios
        self._order: list[int] = []
        self._generator = torch.Generator()
        self._step = self._done = 0
        self._measurable = bool(batches.held_out) and pl_module.automatic_optimization
        self._hearing = Hearing(trainer, pl_module, index)
        self._begin = working_time()
        self._clock = self._begin
        self.measured = len(batches.held_out)
        """Batches that a measurement takes; may be lowered."""

    @property
    def measurable(self) -> bool:
        """Whether losses on held-out examples can be had."""
        return self._measurable

    def clock(self) -> float:
        """The time, as all ranks have agreed on it."""
        return working_time() if self._trainer.world_size == 1 else self._clock

    def rewind(self, order: int) -> None:
        """Puts everything back to the start."""
        self._sandbox.rewind()
        if not self._module.automatic_optimization:
            self._hearing.begin()
        self._generator.manual_seed(order)
        self._order, self._step = [], 0

    def step(self, lr: float) -> float:
        """One optimizer step; returns the loss before it, averaged over its micro-batches and over ranks."""
        set_rates(self._optimizer, lr, self._ratios)
        self._hearing.at(lr)
        try:
            loss = self._automatic_step() if self._module.automatic_optimization else self._manual_step_together()
        except NoLoss:
            raise
        except Exception as error:
            if self._done and isinstance(error, (torch.OutOfMemoryError, MemoryError)):
                raise  # not at the first step, which training will make, too
            raise StepFailed(error, self._done) from error
        self._done += 1
        return loss

    def _automatic_step(self) -> float:
        losses: list[float] = []

        def closure() -> torch.Tensor:
            loss, raised = None, None
            try:
                loss = self._accumulate(losses)
            except Exception as error:  # the other ranks wait for this one
                if self._trainer.world_size == 1:
                    raise
                raised = error
            self._share(losses, raised)
            assert loss is not None
            return loss

        self._sandbox.optimizer_step(self._optimizer, closure)
        self._step += 1
        return losses[0]

    def held_out(self) -> float:
        """The loss on what is held out: dropout off, batch statistics as in training; NaN where it cannot be had."""
        if not self._measurable:
            return math.nan
        state = random_state()
        norms = [item for item in self._module.modules() if isinstance(item, _NormBase) and item.training]
        found: list[float] = []
        raised = None
        try:
            with self._sandbox.mode(training=False):
                for norm in norms:
                    norm.training = True
                for index in self._batches.held_out[: max(1, self.measured)]:
                    self._sandbox.reseed()
                    loss = self._sandbox.loss(self._sandbox.training_step(self._batches.batch(index), 0))
                    if loss is not None:
                        found.append(float(loss.detach().float().mean()))
        except Exception as error:  # a step that is no step in eval mode, or takes full batches only
            raised = error
        finally:
            set_random_state(state)
        value = math.nan if raised is not None or not found else sum(found) / len(found)
        if self._trainer.world_size > 1:
            value, flag = _ranks.mean([value, float(raised is not None)], self._trainer)
            raised = RuntimeError("on another rank") if flag else None
        if raised is not None or not found:
            self._measurable = False
            return math.nan
        return value

    def _accumulate(self, losses: list[float]) -> torch.Tensor:
        trainer, module = self._trainer, self._module
        micro = trainer.accumulate_grad_batches
        total = None
        for part in range(micro):
            batch, number = self._next()
            loss = self._sandbox.loss(self._sandbox.training_step(batch, number))
            if loss is None:
                raise NoLoss("training_step returns no loss")
            if part == 0:
                module.optimizer_zero_grad(trainer.current_epoch, number, self._optimizer)
            self._sandbox.backward(loss / micro, self._optimizer)
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        losses.append(float(total.float().mean()) / micro)
        return total / micro

    def _share(self, losses: list[float], raised: Exception | None) -> None:
        """Has all ranks average loss, time and gradients, and stop together where one has failed."""
        if self._trainer.world_size == 1:
            return
        loss = losses[0] if losses else 0.0
        losses[:] = [self._agree(loss, raised)]
        _ranks.average_gradients([item for item in self._module.parameters() if item.requires_grad], self._trainer)

    def _agree(self, loss: float, raised: Exception | None) -> float:
        """The mean of all ranks' losses; their clocks are put right, and all stop together where one has failed."""
        told = [loss, working_time() - self._begin, float(raised is not None)]
        mean, elapsed, failed = _ranks.mean(told, self._trainer)
        if raised is not None:
            raise raised
        if failed:
            raise RuntimeError("the experiment failed on another rank")
        self._clock = self._begin + elapsed
        return mean

    def _manual_step_together(self) -> float:
        """A user's step on every rank by itself; the parameters are averaged after it.

        No rank waits inside the user's code. For SGD, with momentum too, it is what averaging gradients would give.
        """
        if self._trainer.world_size == 1:
            return self._manual_step()
        loss, raised = 0.0, None
        try:
            loss = self._manual_step()
        except Exception as error:  # the other ranks wait for this one
            raised = error
        loss = self._agree(loss, raised)
        trained = [item for item in self._module.parameters() if item.requires_grad and item.is_floating_point()]
        _ranks.average(trained, self._trainer)
        return loss

    def _manual_step(self) -> float:
        """Runs the user's steps until they have stepped the optimizer; the mean of the losses on the way."""
        losses: list[float] = []
        hearing = self._hearing
        for _ in range(MOST_BATCHES):
            before = hearing.forget()
            batch, number = self._next()
            with hearing.tensors():
                output = self._sandbox.training_step(batch, number)
            self._step += 1
            loss = hearing.loss(self._sandbox.loss(output))
            if loss is not None:
                losses.append(float(loss.detach().float().mean()))
                if not math.isfinite(losses[-1]):
                    return losses[-1]
            if losses and (hearing.stepped > before or not hearing.heard):
                return sum(losses) / len(losses)
        if losses and hearing.stepped:  # a scaler may leave steps out
            return sum(losses) / len(losses)
        missing = "step this optimizer" if losses else "return a loss or go backward from one"
        raise NoLoss(f"training_step does not {missing} in {MOST_BATCHES} batches")

    def pull(self, lr: float, in_use: float) -> tuple[int, float, float] | None:
        """Another optimizer whose loss ends higher where this one trains at ``lr``: its index, and both losses."""
        return None if self._module.automatic_optimization else self._hearing.pull(lr, in_use)

    def _next(self) -> tuple[Any, int]:
        if not self._order:
            train = self._batches.train
            self._order = [train[place] for place in torch.randperm(len(train), generator=self._generator).tolist()]
        return self._batches.batch(self._order.pop()), self._step
