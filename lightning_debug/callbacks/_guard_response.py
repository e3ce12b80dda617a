"""What NonFiniteGuard does about a bad step: reports it, leaves it out, goes back, stops."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import LBFGS

from lightning_debug.callbacks import _ranks
from lightning_debug.callbacks._guard_replay import inquire, tells_of_bad
from lightning_debug.callbacks._guard_saving import save_step
from lightning_debug.callbacks._guard_state import Batch, Numbers
from lightning_debug.callbacks._guard_step import bad_step, of_all_ranks
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.evidence import Moment
from lightning_debug.evidence.numbers import SkipBudget, WeightsCheck
from lightning_debug.finding import FaultFound
from lightning_debug.probes.deferred import host_value
from lightning_debug.probes.good_state import GoodState
from lightning_debug.probes.gradient_norms import drop_gradients
from lightning_debug.probes.nonfinite_tensors import SHOWN, bad_weights, weights_flag
from lightning_debug.probes.running_statistics import RunningStatistics
from lightning_debug.session import Session, summary

INVESTIGATIONS = 3
"""How many bad steps of a fit are run again; further ones are only counted."""

_FITS = itertools.count()
"""Numbers that fits have on all ranks."""


@dataclass(frozen=True)
class Policy:
    """What to do about a bad step.

    Args:
        action: ``"warn"``, ``"skip"``, ``"rollback"``, ``"stop"`` or ``"raise"``.
        max_skips: How many steps may be left out before training stops; ``None`` for any number.
        keep_every: Optimizer steps from one copy of good weights to the next.
        folder: Where a bad step is saved; empty for nowhere.
    """

    action: str = "warn"
    max_skips: int | None = None
    keep_every: int = 50
    folder: str = ""

    @property
    def decides(self) -> bool:
        """Whether it must be known before the update that a step is bad."""
        return self.action != "warn"


class Response:
    """What is done about the bad steps of one fit.

    Attributes:
        poisoned: Whether weights are known not to be finite, so that nothing more can be learned.
        skips: Steps left out, those of a run that is resumed included.

    Args:
        trainer: The Trainer.
        module: Its module.
        session: Where evidence goes.
        policy: What to do.
        batches: The batches that are held.
        emit: Reports the window of steps so far.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        session: Session,
        policy: Policy,
        batches: deque[Batch],
        emit: Callable[[], None],
    ) -> None:
        self._trainer, self._module, self._session, self._policy = trainer, module, session, policy
        self._batches, self._emit, self._fit = batches, emit, next(_FITS)
        self._inquiries = {True: INVESTIGATIONS, False: INVESTIGATIONS}  # for all ranks at once, and for this one
        self._statistics = RunningStatistics(module) if policy.action in ("skip", "rollback", "stop") else None
        self._good = GoodState(module, trainer.optimizers) if policy.action == "rollback" else None
        self._steps = 0
        self.poisoned = False
        self.skips = 0

    def begin(self) -> None:
        """Gradients begin to accumulate."""
        if self._statistics is not None:
            self._statistics.keep()
        if self._good is not None and not self._good.held and not self._weights_are_bad():
            self._good.keep()

    def good(self) -> None:
        """An optimizer is about to take a step that is finite: now and then its weights are worth keeping."""
        self._steps += 1
        if self._good is not None and self._steps % self._policy.keep_every == 0:
            self._good.keep()

    def fail(self, exception: BaseException, count: int, *, late: bool) -> None:
        """The fit ends with an exception. If it tells of a bad value, the step is run again.

        Args:
            exception: The exception.
            count: The batch it was raised in.
            late: Whether weights have changed since that batch's step began.
        """
        batch = next((item for item in self._batches if item.count == count), None)
        if self._trainer.world_size > 1 or self.poisoned or batch is None or not tells_of_bad(exception):
            return
        inquiry = inquire(self._trainer, self._module, batch, [], late=late, aligned=True)
        if inquiry.origin is not None or inquiry.causes:
            self._emit()
            told = summary(exception)[:300]
            self._session.observe(bad_step(self._module, None, inquiry, moment(self._trainer), error=told))

    def forgo(self) -> None:
        """Runs no more steps again."""
        self._inquiries = {True: 0, False: 0}

    def check_weights(self, when: str) -> None:
        """Looks at all parameters and buffers; reads on the host."""
        flag, checked = weights_flag(self._module)
        bad = () if flag is None or math.isfinite(host_value(flag)) else bad_weights(self._module)
        self.poisoned = self.poisoned or (when != "start" and any(item.trainable for item in bad))
        if bad or when == "start":
            self._session.observe(
                WeightsCheck(at=moment(self._trainer), when=when, checked=checked, bad=bad[:SHOWN], bad_count=len(bad))
            )

    def mend(self) -> None:
        """Goes back where a gradient scaler leaves a step out because weights are bad, which it cannot cure."""
        if self._good is not None and self._weights_are_bad():
            self._go_back()

    def act(
        self,
        optimizer: Any,
        count: int,
        numbers: Numbers,
        *,
        gradient: bool,
        late: bool = False,
        at: Moment | None = None,
        **known: Any,
    ) -> bool:
        """Reports a bad step and acts on it.

        Returns:
            Whether the step was left out.
        """
        action = self._policy.action
        lbfgs = isinstance(optimizer, LBFGS)
        dropped = gradient and self._policy.decides and not late and not known and not lbfgs
        aligned = self._trainer.world_size == 1 or at is None  # in the hook before a step, all ranks see it
        if self._inquiries[aligned] and not self.poisoned:
            self._inquiries[aligned] -= 1
            how = {"late": late, "aligned": aligned, "at": at, "skipped": dropped, **known}
            with self._session.guarded("NonFiniteGuard: the origin of a bad step", moment(self._trainer)):
                self._report(optimizer, count, numbers, **how)
        if dropped:
            drop_gradients(optimizer)
            if self._statistics is not None:
                self._statistics.restore()
            if self._good is not None:
                self._go_back()
            self._spend()
        if action in ("stop", "raise"):
            report = self._session.judge()
            if known and not any(finding.code.startswith("LD30") for finding in report):
                return False  # a gradient scaler that looks for its scale
            if action == "raise":
                raise FaultFound(report)
            self._trainer.should_stop = True
        return dropped

    def _weights_are_bad(self) -> bool:
        flag, _ = weights_flag(self._module)
        bad = flag is not None and not math.isfinite(host_value(flag))
        return _ranks.any_rank(bad, self._trainer) if _ranks.is_sharded(self._trainer) else bad

    def _go_back(self) -> None:
        if self._good is not None and self._good.held:
            self._good.restore()
            self.poisoned = False

    def _spend(self) -> None:
        self.skips += 1
        limit = self._policy.max_skips
        if limit is None or self.skips <= limit:
            return
        self._trainer.should_stop = True
        if self.skips == limit + 1:
            self._emit()
            self._session.observe(
                SkipBudget(at=moment(self._trainer), skipped=self.skips, allowed=limit, action=self._policy.action)
            )

    def _report(
        self,
        optimizer: Any,
        count: int,
        numbers: Numbers,
        *,
        late: bool,
        aligned: bool,
        at: Moment | None,
        skipped: bool,
        **known: Any,
    ) -> None:
        trainer = self._trainer
        batch = next((item for item in self._batches if item.count == count), None)
        others = [item for item in self._batches if item.count != count]
        inquiry = inquire(trainer, self._module, batch, others, late=late, aligned=aligned)
        alone = trainer.world_size == 1 and not late and not numbers.bad_loss
        earlier = list(reversed(others)) if inquiry.finite and alone else []
        while earlier and inquiry.finite:  # another micro-batch of the same step
            batch = earlier.pop(0)
            inquiry = inquire(trainer, self._module, batch, others, late=False, aligned=True)
        worst = sum(filter(None, numbers.norms.values()))  # NaN if any is
        if late and inquiry.finite and not numbers.bad_loss and not math.isnan(worst):
            return  # every gradient was finite, and only the sum of their squares was not
        action = "scaler" if known else self._policy.action
        cannot = ""
        if self._policy.decides and not skipped and not known:
            cannot = "LBFGS steps inside its own search" if isinstance(optimizer, LBFGS) else ""
        if known:
            known["unscaled_finite"] = inquiry.finite
        if self._policy.folder and batch is not None:
            known["saved"] = save_step(trainer, self._module, batch, self._policy.folder, late=late)
        self._emit()
        event = bad_step(
            self._module,
            optimizer,
            inquiry,
            at or moment(trainer),
            loss=numbers.loss,
            action=action,
            cannot_skip=cannot,
            **known,
        )
        for one in of_all_ranks(trainer, event, f"guard/{self._fit}/{count}") if aligned else [event]:
            self._session.observe(one)
        if late and inquiry.weights:
            self.check_weights("step")
