"""Which modules validate in train mode: the first batches of a few validations are looked at closely."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from lightning_debug.evidence.modes import TrainModule, ValidationModes
from lightning_debug.probes.batchnorm_drift import Updates
from lightning_debug.probes.mode_causes import UserHooks, train_cause
from lightning_debug.probes.mode_history import SENTINELS, Mark
from lightning_debug.probes.modes import ModeModule, is_batch_norm, mode_modules
from lightning_debug.probes.participation import Draws, Part, Participation
from lightning_debug.probes.train_calls import TrainCalls
from lightning_debug.schedule import either, every, first

SCHEDULE = either(first(3), every(20))
"""Validations whose first batches are looked at in any case."""

BATCHES = first(2)
"""Those batches."""


class ValidationAudit:
    """Follows modes through validations, or through a test.

    Args:
        model: The LightningModule.
        calls: The watch over ``train`` and ``eval``.
        hooks: The user's overrides of a hook.
        compiled: Whether calls inside the model cannot be seen.
        ignore: Says that a forward call is not the run's own.
    """

    def __init__(
        self,
        model: nn.Module,
        calls: TrainCalls,
        *,
        hooks: UserHooks,
        compiled: bool = False,
        ignore: Callable[[], bool] = lambda: False,
    ) -> None:
        self._model, self._calls, self._hooks, self._compiled = model, calls, hooks, compiled
        self._ignore = ignore
        self._index = -1
        self._modules: list[ModeModule] = []
        self._in_train: set[str] = set()
        self._parts: dict[str, Part] = {}
        self._updates: Updates | None = None
        self._norms: list[ModeModule] = []
        self._watch: Participation | None = None
        self._draws = Draws()
        self._active = False
        self._again = False
        self._recorded = False
        self._told: set[tuple[str, bool]] = set()

    @property
    def index(self) -> int:
        """Position of the validation among those of the run, from 0."""
        return self._index

    def start(self) -> None:
        """A validation begins."""
        self.close()
        self._index += 1
        self._modules = [item for item in mode_modules(self._model) if item.role != "custom"]
        self._again = False

    def begin(self, batch: int) -> None:
        """A batch begins; ``batch`` counts them from 0 over all loaders."""
        self.close()
        flags = any(item.module.training for item in self._modules[:SENTINELS])
        self._active = (SCHEDULE(self._index) and BATCHES(batch)) or self._again or (flags and not self._told)
        self._again = False
        if not self._active:
            return
        if batch:
            self._modules = [item for item in mode_modules(self._model) if item.role != "custom"]
        self._in_train = {item.path for item in self._modules if item.module.training}
        self._norms = [item for item in self._modules if is_batch_norm(item.module)]
        self._updates = Updates([item.module for item in self._norms if isinstance(item.module, _NormBase)])
        self._parts = {item.path: Part(item.module, ()) for item in self._modules}
        if self._modules and not self._compiled:
            self._draws = Draws()
            self._watch = Participation(self._parts.values(), self._ignore, self._draws)
            self._watch.start()

    def close(self) -> None:
        """Takes instruments out; harmless when repeated."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def end(self, mark: Mark) -> ValidationModes | None:
        """A batch is over; the evidence, when there is news."""
        self.close()
        if not self._active:
            return None
        self._active = False
        counts = self._updates.count() if self._updates is not None else []
        updates = dict(zip((item.path for item in self._norms), counts, strict=False))
        entries = []
        for item in self._modules:
            part = self._parts[item.path]
            began, now = item.path in self._in_train, item.module.training
            called = None if self._compiled else part.any_train_calls
            if called or (called is None and (began or now or updates.get(item.path))):
                entries.append(self._entry(item, called, began, now, updates.get(item.path, 0), mark))
            self._again = self._again or (now and not began)
        fresh = {(entry.path, entry.left) for entry in entries} - self._told
        if not fresh and self._recorded:
            return None
        self._recorded = True
        self._told |= fresh
        return ValidationModes(model=type(self._model).__name__, watched=len(self._modules), in_train=tuple(entries))

    def _entry(
        self, item: ModeModule, called: int | None, began: bool, now: bool, updates: int, mark: Mark
    ) -> TrainModule:
        call = self._calls.last(item.module, mode=True)
        return TrainModule(
            path=item.path,
            class_name=type(item.module).__name__,
            role=item.role,
            root=item.root if now else item.path,
            alone=item.alone if now else False,
            train_calls=called,
            left=began or now,
            updates=updates,
            draws=self._draws.most([item.module, *(parent for _, parent in item.parents)]),
            change=train_cause(call, not began, self._hooks, mark.epoch, mark.step),
        )

    def mend(self, paths: Collection[str]) -> None:
        """Puts modules into eval mode: what has children keeps its children's modes."""
        for item in self._modules:
            if item.path in paths:
                item.module.training = False
