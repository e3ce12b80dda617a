"""One fit under NonFiniteGuard: takes numbers in, decides about steps, and says what was found."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from typing import Any

from torch import Tensor

from lightning_debug.callbacks import _ranks
from lightning_debug.callbacks._guard_cadence import Cadence, Exposure
from lightning_debug.callbacks._guard_response import Policy, Response
from lightning_debug.callbacks._guard_scaling import ScalingWatch
from lightning_debug.callbacks._guard_state import Numbers, Tag, Window, held, last_batches, loss_names, place_of
from lightning_debug.callbacks._guard_step import Clipping, Step, loss_in, scale_of, scaler_of
from lightning_debug.callbacks._lightning import LightningModule, Trainer, batches_seen, moment
from lightning_debug.callbacks._logged_loss import LoggedLoss
from lightning_debug.evidence import Moment
from lightning_debug.probes.deferred import Deferred, Values, host_value
from lightning_debug.probes.gradient_norms import clip_plain, local
from lightning_debug.probes.nonfinite_tensors import weights_flag
from lightning_debug.probes.norm_history import Histories
from lightning_debug.session import Session

NOW = Moment()
"""Stands for the moment at hand, which takes longer to tell than all the rest of a good step."""

WINDOW = 50
"""Batches to a window: how often losses and norms are reported as evidence."""

SCALER_PATIENCE = 4
"""Skips of the gradient scaler in a row after which the step is run again without it."""


class Watch:
    """What is seen of one fit.

    Args:
        session: Where evidence goes.
        policy: What to do about a bad step.
        clipping: How gradients are clipped.
        delay: Reads on the CPU are held back for so many batches, as a device would.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        session: Session,
        policy: Policy,
        clipping: Clipping,
        delay: int,
    ) -> None:
        self._trainer, self._module, self._session = trainer, module, session
        self._policy, self._clipping = policy, clipping
        self._reads: Deferred[Tag] = Deferred(delay)
        self._device = trainer.strategy.root_device
        self._at_once = self._device.type == "cpu" and not delay
        self._sharded = _ranks.is_sharded(trainer)
        self._may_scale = getattr(trainer.precision_plugin, "scaler", None) is not None
        lenient = self._at_once and not policy.decides
        self._may_omit = lenient and not clipping.by_norm
        plain = lenient and not self._may_scale and clipping.clip_value is None and not self._sharded
        self._quick = plain and clipping.quantile is None
        self._limit, _ = clipping.in_force(trainer)
        self._batches = last_batches(on_cpu=self._at_once)
        self._window = Window()
        self._losses: list[Tensor] = []
        self._logged = LoggedLoss(module)
        self._calm: list[float] = []  # the values of those, where the step asked for nothing else
        self._norms: dict[str, Tensor] = {}
        self._read: dict[str, float] = {}  # the values of those, where the step only clipped
        self._unread: set[str] = set()  # optimizers that have stepped without their norm being taken
        self._exposure = Exposure()
        self._cadences: defaultdict[int, Cadence] = defaultdict(functools.partial(Cadence, self._exposure))
        self._count = 0
        self._handled = -1  # the last batch whose bad numbers were dealt with
        self._stepped = self._begun = False  # begun: gradients are accumulating
        self._asked = self._scaler_skips = 0
        self._histories = Histories(clipping.quantile, clipping.warm_up)
        self._scaling = ScalingWatch(trainer, module, session)
        self._response = Response(trainer, module, session, policy, self._batches, self.emit)

    def begin(self, index: int, batch: Any) -> None:
        """A batch is about to be trained on."""
        self._batches.append(held(self._count, index, batch, self._device))
        self._losses, self._norms, self._read, self._unread, self._stepped = [], {}, {}, set(), False
        if not self._begun:
            self._response.begin()
        self._begun = True

    def backward(self, loss: Tensor) -> None:
        """A backward pass is about to begin."""
        if loss.numel() != 1:
            return
        value, scale = local(loss.detach()), scale_of(self._trainer) if self._may_scale else None
        if self._module.automatic_optimization:
            self._losses.clear()  # a closure that is called again, as LBFGS does
        if self._may_omit:
            self._exposure.look(loss, self._count)
        self._losses.append(value if scale is None else value / scale)

    def step(self, optimizer: Any) -> None:
        """An optimizer is about to step: takes the norm, decides, clips."""
        if not (self._quick and self._is_calm(optimizer)):
            self._weigh(optimizer)

    def _weigh(self, optimizer: Any) -> None:
        trainer, decides, sharded = self._trainer, self._policy.decides, self._sharded
        step = Step(trainer, optimizer, self._clipping, whole=sharded and (decides or self._clipping.by_norm))
        index, suffix = place_of(optimizer, trainer.optimizers)
        dropped = self._begun = False
        scaled = self._may_scale and scaler_of(trainer) is not None
        clipped = self._limit is not None
        if scaled or not self._may_omit or self._cadences[index].due(step, self._count, clipped=clipped):
            step.measure()
        if not scaled and (decides or self._at_once):
            gradient = not step.finite()
            if sharded and decides:
                gradient = _ranks.any_rank(gradient, trainer)
            losses = self._losses if gradient or self._at_once else []
            values = map(host_value, losses)
            numbers = Tag(self._count, tuple(loss_names(len(losses))), NOW, self._divisor).read(tuple(values))
            if numbers.bad_loss and step.norm is None:
                gradient = not step.measure().finite()
            if gradient or (numbers.bad_loss and trainer.world_size == 1):
                dropped = self._bad_step(optimizer, self._count, numbers, gradient=gradient)
        if self._policy.action == "rollback" and not dropped:
            self._response.good() if step.finite() else self._response.mend()
        limit = self._histories.limit(index)
        if not dropped:
            step.clip(trainer, limit)
            self._stepped = True
        if step.norm is not None:
            told = (("gradient_norm", step.norm), ("limit", limit))
            self._norms |= {f"{name}{suffix}": value for name, value in told if value is not None}
            self._histories.add(index, step.norm)
        elif step.tensors:
            self._unread.add(f"gradient_norm{suffix}")

    def _is_calm(self, optimizer: Any) -> bool:
        """Most steps of a run on a CPU: a glimpse of the gradients is as usual, and nothing else asks for more.

        Where we clip, their norm is finite, and they are clipped when this returns.
        """
        index, suffix = place_of(optimizer, self._trainer.optimizers)
        values = [*map(host_value, self._losses)]
        if not all(map(math.isfinite, values)):
            return False
        if self._clipping.max_norm is None:
            if not self._cadences[index].is_calm(optimizer, self._count, clipped=self._limit is not None):
                return False
            self._unread.add(f"gradient_norm{suffix}")
        else:
            norm = clip_plain(optimizer, self._clipping.max_norm, self._clipping.norm_type)
            if norm is None:
                return False
            self._norms[f"gradient_norm{suffix}"], self._read[f"gradient_norm{suffix}"] = norm, host_value(norm)
        self._begun, self._stepped, self._calm = False, True, values
        return True

    def end(self, outputs: Any) -> None:
        """A batch was trained on: sends its numbers off, and takes in those that have arrived."""
        calm, self._calm = self._calm, []
        if calm and len(calm) == len(self._losses) and len(self._norms) == len(self._read):
            divisor = self._divisor
            losses = [value * divisor for value in calm]
            norms = dict.fromkeys(self._unread) | self._read
            self._window.add_calm(batches_seen(self._trainer), losses, norms, self._limit)
        else:
            self._collect(outputs)
        self._scaling.end()
        if self._handled == self._count and self._stepped and not self._response.poisoned:
            self._response.check_weights("step")
        if len(self._window.steps) >= WINDOW:
            self.emit()
        if self._at_once and not self._begun:
            self._batches.clear()
        self._count += 1

    def _collect(self, outputs: Any) -> None:
        losses, scale = self._losses, scale_of(self._trainer) if self._may_scale else None
        if not losses or (self._module.automatic_optimization and scale is not None):
            returned = loss_in(outputs)  # the backward pass saw it multiplied by the scale, which may overflow
            losses = losses or self._logged.take(self._trainer) if returned is None else [returned]
        numbers = dict(zip(loss_names(len(losses)), losses, strict=True)) | self._norms
        if scale is not None:
            numbers["scale"] = scale
        if numbers:
            unread = tuple(sorted(self._unread.difference(numbers)))
            at = NOW if self._at_once else moment(self._trainer)
            tag = Tag(self._count, tuple(numbers), at, self._divisor, unread)
            if self._at_once:
                self._take(tag, tuple(map(host_value, numbers.values())))
            else:
                self._reads.put(tag, list(numbers.values()))
        if not self._at_once:
            self.arrivals()

    def ask_weights(self, *, always: bool = False) -> None:
        """Asks whether the weights are finite, if it is long ago; the answer comes with the numbers."""
        if not always and self._count - self._asked < WINDOW:  # epochs may be as short as a batch
            return
        self._asked = self._count
        flag, _ = weights_flag(self._module)
        if flag is not None:
            self._reads.put(Tag(self._count, ("weights",), moment(self._trainer)), [flag])
            self.arrivals()

    def finish(self) -> None:
        """Takes in what is still on its way; waits for the device."""
        self.ask_weights(always=not self._response.poisoned)
        self.arrivals(wait=True)
        self._scaling.finish()
        self.emit()

    def fail(self, exception: BaseException) -> None:
        """The fit ends with an exception. If it tells of a bad value, the step is run again."""
        self._response.fail(exception, self._count, late=self._stepped)
        self._response.forgo()
        self._scaling.finish()
        self.arrivals(wait=True)
        self.emit()

    def arrivals(self, *, wait: bool = False) -> None:
        """Takes in numbers that have arrived."""
        for tag, values in self._reads.wait() if wait else self._reads.arrived():
            if tag.names != ("weights",):
                self._take(tag, values)
            elif not all(map(math.isfinite, values)):
                self._response.check_weights("epoch")

    def _take(self, tag: Tag, values: Values) -> None:
        """Takes in the numbers of one batch."""
        numbers = tag.read(values)
        self._window.add(batches_seen(self._trainer) if tag.at is NOW else tag.at.step, numbers, self._limit)
        gradient = numbers.bad_gradient
        known: dict[str, Any] = {}
        if numbers.scale is not None:
            gradient, known = self._scaler(numbers)
        if (numbers.bad_loss or gradient) and self._handled < tag.count and not self._response.poisoned:
            unseen = not self._module.automatic_optimization  # a loop of its own may have stepped past our hook
            late = numbers.scale is None and (tag.count < self._count or self._stepped or unseen)
            optimizer = self._trainer.optimizers[0] if self._trainer.optimizers else None
            at = moment(self._trainer) if tag.at is NOW else tag.at
            self._bad_step(optimizer, tag.count, numbers, gradient=gradient, late=late, at=at, **known)

    def emit(self) -> None:
        """Reports the window."""
        limit, source = self._clipping.in_force(self._trainer, self._window.limit)
        self._limit, _ = self._clipping.in_force(self._trainer)
        local = self._sharded and not self._policy.decides and not self._clipping.by_norm
        how = {"norm_type": self._clipping.norm_type, "local": local, "clip_norm": limit, "clipped_by": source}
        self._session.observe(self._window.evidence(moment(self._trainer), **how))
        self._window = Window()

    @property
    def _divisor(self) -> int:
        """What Lightning divides the loss by."""
        return self._trainer.accumulate_grad_batches if self._module.automatic_optimization else 1

    def _scaler(self, numbers: Numbers) -> tuple[bool, dict[str, Any]]:
        """Whether a skip of the scaler's is worth a look, and what is known of it."""
        self._scaler_skips = (
            self._scaler_skips + 1 if numbers.bad_gradient else 0 if numbers.norms else self._scaler_skips
        )
        self._window.skipped_by_scaler += numbers.bad_gradient
        known = {"scale": numbers.scale, "scaler_skips": self._scaler_skips}
        return numbers.bad_gradient and self._scaler_skips % SCALER_PATIENCE == 0, known

    def _bad_step(self, optimizer: Any, count: int, numbers: Numbers, **how: Any) -> bool:
        """Has a bad step dealt with; says whether it was left out."""
        self._handled = count
        dropped = self._response.act(optimizer, count, numbers, **how)
        self._window.skipped += dropped
        return dropped

    def check_weights(self, when: str) -> None:
        """Looks at all parameters and buffers; reads on the host."""
        self._response.check_weights(when)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on as if nothing had been: nothing, by default."""
        found: dict[str, Any] = {}
        if known := self._histories.state():
            found["norms"] = known
        if self._policy.max_skips is not None:
            found["skips"] = self._response.skips
        return found

    def load(self, state: dict[str, Any]) -> None:
        """Takes up what :meth:`state` gave."""
        self._response.skips = int(state.get("skips", 0))
        self._histories.load(state.get("norms", {}), self._device)
