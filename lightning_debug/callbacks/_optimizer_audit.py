"""UpdateAudits: the part of OptimizerInspector that looks at gradients and weights on a few batches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, is_compiled, moment
from lightning_debug.evidence.optimization import GradientCarryover, UpdateAudit
from lightning_debug.experiments.isolation import in_sandbox
from lightning_debug.probes.optimizer_coverage import Held, held_parameters, own_optimizers
from lightning_debug.probes.participation import Participation
from lightning_debug.probes.stated_intent import stated_words
from lightning_debug.probes.update_ratio import plain_rate
from lightning_debug.probes.update_sign import against, loss_sign
from lightning_debug.probes.update_watch import UpdateWatch, leaves

FIRST = 3
"""Batches looked at when training starts."""

MOST = 64
"""Batches looked at in a row, where the optimizer does not step on every batch."""

LATER = frozenset({10, 50, 250, 1000, 5000, 20_000})
"""Later batches looked at."""

EPOCHS = 5
"""Epochs whose first batch is looked at."""

WINDOW = 16
"""Batches of a program's own loop that a later look waits for a step."""

ASCENT = ("adversar", "attack", "unlearn", "ascent", "perturb", "saliency", "reward")


class UpdateAudits:
    """Decides which batches are looked at, and keeps what was seen.

    Args:
        callback: The callback whose session takes the evidence.
        trainer: The Trainer, when training starts.
        pl_module: Its module.
    """

    def __init__(self, callback: DebugCallback, trainer: Trainer, pl_module: LightningModule) -> None:
        self._callback = callback
        self.batches = 0
        self.backward_passes = 0
        self.strays: dict[tuple[int, ...], int] = {}
        self.stray_examples: dict[tuple[int, ...], Any] = {}
        self.called: dict[int, str] = {}
        self.repeated: dict[int, torch.nn.Module] = {}
        self.rates: list[float] = []
        self.first_steps = trainer.global_step
        self.compiled = is_compiled(pl_module)
        self._last = -1
        self._unbroken = True
        self._until = FIRST
        self._told_carry: dict[int, tuple[int, int]] = {}
        self._sign: tuple[int, str] = (0, "")
        self._against = ""
        self._seen_backward = True
        self._words = tuple(word for word in stated_words(pl_module, ASCENT))
        self.frozen_at_start = {id(item) for item in pl_module.parameters() if not item.requires_grad}
        self.looking = False
        self._stretch = 0
        self._due, self._steps_due = -1, 0
        self.optimizers = self.known_optimizers(trainer, pl_module)
        trainable = [item for item in held_parameters(pl_module) if item.parameter.requires_grad]
        self.watch = UpdateWatch(trainable, self.optimizers, in_sandbox, tensor_hooks=not self.compiled)
        self._calls: Participation | None = None

    @staticmethod
    def known_optimizers(trainer: Trainer, pl_module: LightningModule) -> list[Any]:
        """The Trainer's optimizers and those that the model keeps to itself, each once."""
        found = {id(item): item for item in trainer.optimizers if hasattr(item, "param_groups")}
        for item in own_optimizers(pl_module):
            raw = getattr(item, "_optimizer", item)
            found.setdefault(id(raw), raw)
        return [item for item in found.values() if type(item).__name__ != "_MockOptimizer"]

    def start(self, trainer: Trainer, pl_module: LightningModule, batch_idx: int) -> None:
        """Begins to look at this batch, if it is one of those."""
        number, self.batches = self.batches, self.batches + 1
        first_of_epoch = batch_idx == 0 and 0 < trainer.current_epoch < EPOCHS
        stretch = (
            number == self._last + 1
            and number < MOST
            and any(item.steps < FIRST for item in self.watch.steppings.values())
        )
        if number in LATER or first_of_epoch:
            self._due, self._steps_due = number + _window(trainer, pl_module), self.watch.steps
        waits = number <= self._due and self.watch.steps == self._steps_due  # with accumulation, steps come late
        self.looking = number < self._until or stretch or waits
        if not self.looking:
            if self._stretch:
                self._forget()
            return
        if first_of_epoch:
            self._refresh(trainer, pl_module)
        if number != self._last + 1:
            self._forget()
        self._last = number
        self._stretch += 1
        self._sign, self._against, self._seen_backward = (0, ""), "", False
        self.rates += [
            rate
            for item in self.optimizers
            for group in item.param_groups
            if (rate := plain_rate(group.get("lr"))) is not None
        ]
        self.watch.start(number, measure=waits or number < FIRST or (stretch and self.watch.steps < FIRST))

    def _refresh(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes in parameters that were unfrozen or added since, and optimizers."""
        self.optimizers = self.known_optimizers(trainer, pl_module)
        fresh = [
            item
            for item in held_parameters(pl_module)
            if item.parameter.requires_grad and id(item.parameter) not in self.watch.tracks
        ]
        if fresh:
            self._until = self.batches + FIRST - 1
            self.watch.tracks.update(UpdateWatch(fresh, []).tracks)

    def _forget(self) -> None:
        """Begins anew, where the batch before was not looked at."""
        self._stretch, self._unbroken = 0, False
        for track in self.watch.tracks.values():
            track.release()
        for stepping in self.watch.steppings.values():
            stepping.lost_in = set()

    def _settle(self) -> None:
        """Lets go of the first values of what has moved: they take the memory of the whole model.

        Parameters of no optimizer or without gradient are compared with them later, to tell the copies among them.
        """
        known = {id(item) for each in self.optimizers for group in each.param_groups for item in group["params"]}
        tracks = self.watch.tracks
        if known.issuperset(tracks) and all(track.batches for track in tracks.values()):
            for track in tracks.values():
                track.settle()

    def backward(self, loss: Any, *, automatic: bool) -> None:
        """Looks at the graph of a loss."""
        if in_sandbox():
            return
        self.backward_passes += 1
        if not self.looking or self._seen_backward or not isinstance(loss, torch.Tensor):
            return
        self._seen_backward = True
        self._sign, self._against = loss_sign(loss), against(loss)
        if automatic and self.batches <= FIRST:
            known = self.watch.tracks
            shapes = {tuple(item.shape): item for item in leaves(loss) if id(item) not in known}
            for shape, item in shapes.items():
                self.strays[shape] = self.strays.get(shape, 0) + 1
                self.stray_examples[shape] = item.detach()

    def watch_calls(self, held: Iterable[Held]) -> None:
        """Notes how the modules of these parameters are called, while this batch is looked at."""
        owners = {id(item.owner): item for item in held}
        if not self.looking or not owners or self.compiled:
            return

        counts: dict[int, int] = {}

        def note(module: torch.nn.Module, _: Any) -> None:
            counts[id(module)] = counts.get(id(module), 0) + 1
            if counts[id(module)] > 1:
                self.repeated[id(module)] = module
            if id(module) in owners:
                told = "gradient" if torch.is_grad_enabled() else "no_grad"
                if self.called.get(id(module)) != "gradient":
                    self.called[id(module)] = told

        for key in owners:
            self.called.setdefault(key, "never")
        self._calls = Participation((), in_sandbox, note)
        self._calls.start()

    def end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the look, and records what was measured."""
        if not self.looking:
            return
        self.looking = False
        self.stop()
        self._tell_updates(trainer, pl_module)
        if self._unbroken:
            self._tell_carry(trainer, pl_module)
        if self.batches >= FIRST:
            self._settle()

    def stop(self) -> None:
        """Takes every hook off."""
        self.watch.stop()
        if self._calls is not None:
            self._calls.stop()
            self._calls = None

    def _tell_updates(self, trainer: Trainer, pl_module: LightningModule) -> None:
        groups = tuple(item for read in self.watch.updates for item in read())
        self.watch.updates = []
        if not groups:
            return
        parameters = list(pl_module.parameters())
        total = sum(item.numel() for item in parameters) or 1
        frozen = sum(item.numel() for item in parameters if not item.requires_grad)
        self._callback.session.observe(
            UpdateAudit(
                at=moment(trainer),
                groups=groups,
                first=self.watch.first,
                loss_sign=self._sign[0],
                loss_function=self._sign[1],
                against=self._against,
                optimizers=len(self.watch.steppings),
                automatic=pl_module.automatic_optimization,
                single=self.backward_passes <= self.batches,
                frozen_share=frozen / total,
                words=self._words,
                steps=max(trainer.global_step - self.first_steps, self.watch.steps),
            )
        )

    def _tell_carry(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = [id(item) for item in trainer.optimizers]
        homes = [getattr(type(pl_module), name).__module__ for name in ("optimizer_zero_grad", "optimizer_step")]
        overridden = any(not home.startswith(("pytorch_lightning", "lightning.")) for home in homes)
        for key, item in self.watch.steppings.items():
            seen = (item.carried, item.lost)
            if item.steps < 2 or self._told_carry.get(key) == seen or not math.isfinite(sum(item.norms)):
                continue
            self._told_carry[key] = seen
            self._callback.session.observe(
                GradientCarryover(
                    at=moment(trainer),
                    optimizer=type(item.optimizer).__name__,
                    index=known.index(key) if key in known else -1,
                    optimizers=len(self.watch.steppings),
                    batches=self._stretch,
                    steps=item.steps,
                    carried=item.carried,
                    carried_norm=item.norms[0],
                    fresh_norm=item.norms[1],
                    lost=item.lost,
                    automatic=pl_module.automatic_optimization,
                    accumulate=trainer.accumulate_grad_batches,
                    overridden=overridden,
                )
            )


def _window(trainer: Trainer, pl_module: LightningModule) -> int:
    """How many batches after one the optimizer has made its next step, at the latest."""
    accumulated = trainer.accumulate_grad_batches if pl_module.automatic_optimization else WINDOW
    return min(MOST, max(1, accumulated)) - 1
