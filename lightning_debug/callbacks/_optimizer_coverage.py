"""Coverage: the part of OptimizerInspector that tells which parameters are trained, and whether any is."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.callbacks._optimizer_audit import UpdateAudits
from lightning_debug.evidence.idle import IdleOptimizer
from lightning_debug.evidence.optimization import (
    ParameterCoverage,
    ParametersWithoutGradient,
    TrainingEffect,
    WatchedParameter,
)
from lightning_debug.probes.bytecode import plain_function, returns_nothing
from lightning_debug.probes.cut_parameter import cut_where_read
from lightning_debug.probes.optimizer_coverage import (
    Held,
    in_library,
    is_metric,
    is_spare_end,
    is_twin,
    made_like,
    optimized,
    part_untrained,
    readable,
    untrained,
)
from lightning_debug.probes.update_ratio import plain_rate
from lightning_debug.probes.update_watch import Track

ENOUGH = 2
"""Optimizer steps after which the first judgement is made."""


class Coverage:
    """Reads what the audits saw.

    Args:
        callback: The callback whose session takes the evidence.
        audits: The audits.
    """

    def __init__(self, callback: DebugCallback, audits: UpdateAudits) -> None:
        self._callback = callback
        self._audits = audits
        self._covered = False
        self._missing: frozenset[str] = frozenset()
        self._effect_told = False
        self._moved = False
        self._epochs = 0
        self._cutoff = 0

    def _known(self) -> dict[int, Tensor]:
        stepped = [item.optimizer for item in self._audits.watch.steppings.values()]
        return optimized([*self._audits.optimizers, *stepped])

    def batch_end(self, trainer: Trainer, pl_module: LightningModule, future_rate: float | None) -> None:
        """Judges after the first few steps, and again where parameters came in later."""
        watch = self._audits.watch
        if watch.steps < ENOUGH:
            return
        if not self._effect_told:
            self._effect_told = True
            self._tell_effect(trainer, pl_module, future_rate)
        if self._audits.batches >= ENOUGH:
            self._tell_coverage(trainer, pl_module)

    def candidates(self) -> list[Held]:
        """Parameters in an optimizer that no gradient has reached so far."""
        if self._audits.compiled or not self._audits.watch.steps:
            return []
        known = self._known()
        tracks = self._audits.watch.tracks
        return [
            track.held
            for key, track in tracks.items()
            if key in known and not track.batches and track.held.parameter.requires_grad
        ]

    def _tell_coverage(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known, tracks = self._known(), self._audits.watch.tracks
        loose = [
            track
            for key, track in tracks.items()
            if key not in known and track.batches >= ENOUGH and track.nonzero and track.held.parameter.requires_grad
        ]
        missing = [self._described(pl_module, track, loose, known) for track in loose]
        for shape, count in self._audits.strays.items():
            example = self._audits.stray_examples[shape]
            if count >= ENOUGH and id(example) not in known:
                missing.append(
                    WatchedParameter(
                        name="?", shape=shape, numel=example.numel(), batches=count, untrained=untrained(example)
                    )
                )
        names = frozenset(item.name for item in missing)
        if self._covered and names <= self._missing:
            return
        self._covered, self._missing = True, self._missing | names
        in_model = {id(item) for item in pl_module.parameters()} | set(tracks)
        stale = [item for key, item in known.items() if key not in in_model and item.grad is None]
        trainable = [key for key, track in tracks.items() if track.held.parameter.requires_grad]
        self._callback.session.observe(
            ParameterCoverage(
                at=moment(trainer),
                batches=self._audits.batches,
                optimizer_steps=self._audits.watch.steps,
                trainable=len(trainable),
                covered=sum(key in known for key in trainable),
                missing=tuple(missing[:256]),
                stale=tuple(tuple(item.shape) for item in stale[:64]),
            )
        )

    def _described(
        self, pl_module: LightningModule, track: Track, part: list[Track], known: dict[int, Tensor], calls: str = ""
    ) -> WatchedParameter:
        held = track.held
        root = held.path.partition(".")[0] if held.path else held.name
        same = [
            item.held.parameter
            for item in part
            if (item.held.path.partition(".")[0] if item.held.path else item.held.name) == root
        ]
        siblings = [item for item in held.owner.parameters(recurse=False) if item is not held.parameter]
        origins = [
            item.origin
            for key, item in self._audits.watch.tracks.items()
            if item.origin is not None and item.batches and key in known
        ]
        return WatchedParameter(
            name=held.name,
            owner=held.path,
            owner_class=type(held.owner).__name__,
            shape=tuple(held.parameter.shape),
            numel=held.parameter.numel(),
            held_in=held.held_in,
            untrained=part_untrained(same),
            sibling_optimized=any(id(item) in known for item in siblings),
            unfrozen=id(held.parameter) in self._audits.frozen_at_start,
            in_eval=not held.owner.training,
            batches=track.batches,
            changed=track.changed(),
            library=not held.held_in and in_library(pl_module, held.path),
            metric=not held.held_in and is_metric(pl_module, held.path),
            twin=is_twin(held.parameter, origins),
            calls=calls,
        )

    def _tell_effect(
        self, trainer: Trainer, pl_module: LightningModule, future_rate: float | None, *, ended: bool = False
    ) -> None:
        if self._moved:
            return
        watch, known = self._audits.watch, self._known()
        tracks = [item for item in watch.tracks.values() if not item.held.held_in]
        compared = [item for item in tracks if item.compared]
        changed = sum(item.changed() for item in compared)
        self._moved = changed > 0
        parameters = list(pl_module.parameters())
        asked = max(
            (
                item.rate * item.gradient_norm / item.weight_norm
                for read in watch.updates
                for item in read()
                if item.rate and item.weight_norm
            ),
            default=None,
        )
        step = plain_function(pl_module.training_step)
        self._callback.session.observe(
            TrainingEffect(
                at=moment(trainer),
                batches=self._audits.batches,
                optimizer_steps=max(watch.steps, trainer.global_step - self._audits.first_steps),
                backward_passes=self._audits.backward_passes,
                trainable=sum(item.requires_grad for item in parameters),
                frozen=sum(not item.requires_grad for item in parameters),
                compared=len(compared),
                changed=changed,
                in_optimizer=sum(id(item) in known for item in parameters if item.requires_grad),
                optimized=len(known),
                followed=not self._audits.compiled,
                with_gradient=sum(item.batches > 0 for item in tracks),
                nonzero_gradient=sum(item.nonzero for item in tracks),
                finite=all(item.finite for item in tracks),
                rate=max(self._audits.rates, default=None),
                future_rate=future_rate,
                update_norm=asked,
                automatic=pl_module.automatic_optimization,
                returned=step is None or not returns_nothing(step),
                ended=ended,
            )
        )

    def epoch_end(self, trainer: Trainer, pl_module: LightningModule, future_rate: float | None) -> None:
        """Asks again whether anything moved, and which parameters no gradient has reached."""
        self._epochs += 1
        if not self._moved and (self._effect_told or self._epochs > 1):
            self._tell_effect(trainer, pl_module, future_rate)

    def _instead(self, pl_module: LightningModule, track: Track) -> str:
        """A module made like the parameter's own that is called several times a batch."""
        alike = {key for key, item in self._audits.repeated.items() if made_like(item, track.held.owner)}
        return next((readable(path) for path, item in pl_module.named_modules() if id(item) in alike), "")

    def _tell_idle(self, trainer: Trainer) -> None:
        """Names optimizers that never stepped, though gradients came for them, beside others that did."""
        watch = self._audits.watch
        known = [id(item) for item in trainer.optimizers]
        for key, item in watch.steppings.items():
            if item.steps or item.lost < ENOUGH or not watch.steps:
                continue
            held = [watch.tracks[own] for own in optimized([item.optimizer]) if own in watch.tracks]
            if not held or any(track.changed() for track in held) or not any(track.nonzero for track in held):
                continue
            rates = [plain_rate(group.get("lr")) for group in item.optimizer.param_groups]
            self._callback.session.observe(
                IdleOptimizer(
                    at=moment(trainer),
                    optimizer=type(item.optimizer).__name__,
                    index=known.index(key) if key in known else -1,
                    optimizers=len(watch.steppings),
                    parts=tuple(dict.fromkeys(track.held.name.partition(".")[0] for track in held)),
                    parameters=len(held),
                    lost=item.lost,
                    batches=self._audits.batches,
                    rate=max((rate for rate in rates if rate is not None), default=None),
                )
            )

    def finish(self, trainer: Trainer, pl_module: LightningModule, future_rate: float | None) -> None:
        """Says at the end what no gradient has reached, and whether nothing moved."""
        if not self._moved:
            self._tell_effect(trainer, pl_module, future_rate, ended=True)
        self._tell_idle(trainer)
        watch, known = self._audits.watch, self._known()
        found: list[WatchedParameter] = []
        waiting = [watch.tracks[id(held.parameter)] for held in self.candidates()]
        called: dict[int, Any] = self._audits.called
        reached = {item.held.name: item.batches > 0 for item in watch.tracks.values()}
        for track in waiting:
            if track.origin is not None and not track.changed():
                calls = called.get(id(track.held.owner), "")
                described = self._described(pl_module, track, waiting, known, calls)
                instead = self._instead(pl_module, track) if calls == "never" else ""
                spare = calls == "gradient" and is_spare_end(described.name, reached)
                cut = (
                    cut_where_read(track.held.owner, described.name.rpartition(".")[2])
                    if not track.held.held_in
                    else ""
                )
                found.append(dataclasses.replace(described, instead=instead, spare=spare, cut=cut))
        if watch.steps and not self._audits.compiled:
            self._callback.session.observe(
                ParametersWithoutGradient(
                    at=moment(trainer),
                    epochs=self._epochs,
                    batches=self._audits.batches,
                    ended=True,
                    parameters=tuple(found[:256]),
                    trainable=len(watch.tracks),
                )
            )
