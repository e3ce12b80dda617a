"""Since when each module is in its mode: cheap looks at a few moments of the loop, and what happened in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import nn

from lightning_debug.probes.modes import ModeModule, clean_path
from lightning_debug.probes.train_calls import TrainCall, TrainCalls

SENTINELS = 8
"""How many modules are looked at on every step; a change in one has all looked at."""


class Mark(NamedTuple):
    """A moment at which modes were looked at.

    Args:
        hook: Name of the hook, or ``"capture"`` for the modes that Lightning noted when validation began.
        epoch: Epoch, from 0.
        step: Batches trained on.
    """

    hook: str
    epoch: int
    step: int


@dataclass(frozen=True)
class Change:
    """A module went from train to eval mode, or was in eval when it was first looked at.

    Args:
        after: The last look that found it in train mode; ``None`` if none did.
        before: The first look that found it in eval mode.
        call: The watched call that did it, where one was watched.
    """

    after: Mark | None
    before: Mark
    call: TrainCall | None


class ModeHistory:
    """Compares looks at the modes, by module path.

    Attributes:
        left: The modules now in eval mode, and how each came there.
        toggled: Modules now in eval mode that somebody had in train mode since the look before.

    Args:
        calls: Noted calls of ``train`` and ``eval``; each look forgets those it has used.
    """

    def __init__(self, calls: TrainCalls) -> None:
        self.left: dict[str, Change] = {}
        self.toggled: set[str] = set()
        self._calls = calls
        self._mark: Mark | None = None
        self._sentinels: list[tuple[nn.Module, bool]] = []

    def look(self, modules: Sequence[ModeModule], mark: Mark, modes: Mapping[str, bool] | None = None) -> None:
        """Notes the mode of every module; ``modes`` by name stand in for the modules' own when given."""
        modes = None if modes is None else {clean_path(name): mode for name, mode in modes.items()}
        self.toggled.clear()
        for item in modules:
            now = item.module.training if modes is None else modes.get(item.path, item.module.training)
            known = self.left.get(item.path)
            if not now and self._calls.last(item.module, mode=True) is not None:
                self.toggled.add(item.path)
            if now:
                self.left.pop(item.path, None)
            elif known is None:  # at the very first look no mark is there: it was left in eval before
                self.left[item.path] = Change(self._mark, mark, self._calls.last(item.module, mode=False))
            elif known.call is None and known.after is not None:  # what did it once may do it again, and be watched
                self.left[item.path] = replace(known, call=self._calls.last(item.module, mode=False))
        self._mark = mark
        self._calls.clear()
        if modes is None:
            self._choose(modules)

    def passed(self, mark: Mark) -> bool:
        """Whether the sentinels' modes are as they were; the moment is remembered if they are."""
        for module, training in self._sentinels:
            if module.training is not training:
                return False
        self._mark = mark
        return True

    def _choose(self, modules: Sequence[ModeModule]) -> None:
        """One sentinel for each part of the model, those in train mode first."""
        parts: dict[str, ModeModule] = {}
        for item in sorted(modules, key=lambda one: not one.module.training):
            parts.setdefault(".".join(item.path.split(".")[:2]), item)
        first = list(parts.values())
        chosen = [*first, *(item for item in modules if item not in first)][:SENTINELS]
        self._sentinels = [(item.module, item.module.training) for item in chosen]
