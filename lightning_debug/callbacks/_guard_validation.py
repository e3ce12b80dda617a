"""A validation loss that is not finite: which field of which batch makes it so, found in the validation after it."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

from torch import Tensor

from lightning_debug.callbacks._guard_replay import is_mask
from lightning_debug.callbacks._lightning import LightningModule, Trainer, evaluated_names, moment
from lightning_debug.curves.names import better, plain
from lightning_debug.evidence.numbers import NonFiniteStep
from lightning_debug.experiments.isolation import Unrepeatable, isolated, offload_of
from lightning_debug.probes.deferred import Deferred, host_value
from lightning_debug.probes.nonfinite_tensors import bad_fields, replace_bad
from lightning_debug.session import Session

TRIED = 8
"""Batches with bad values that are run again at most: those of a field that the loss masks come by the hundred."""


class ValidationWatch:
    """Looks at what a validation has logged; where a loss is not finite, at the batches of the next.

    Only then is anything read from batches. With several ranks nothing is: a step of one alone could wait for others.
    """

    def __init__(self, trainer: Trainer, module: LightningModule, session: Session) -> None:
        self._trainer, self._module, self._session = trainer, module, session
        self._reads: Deferred[tuple[str, ...]] = Deferred()
        self._bad: dict[str, float] = {}
        self._left = TRIED if trainer.world_size == 1 else 0

    def begin(self) -> None:
        """A validation begins."""
        for names, values in self._reads.arrived():
            self._bad = {name: value for name, value in zip(names, values, strict=True) if not math.isfinite(value)}

    def batch(self, batch: Any, *indices: int) -> None:
        """A batch of it is about to be run."""
        if not self._bad or self._left <= 0:
            return
        fields = bad_fields(batch)
        suspects = tuple(item.name for item in fields if not is_mask(item))
        if not suspects:
            return
        self._left -= 1
        try:
            found = self._made_bad(batch, suspects, indices)
        except Unrepeatable:
            self._left = 0
            return
        if found is not None:
            self._left = 0
            now = dataclasses.replace(moment(self._trainer, indices[0]), stage="validate")
            self._session.observe(NonFiniteStep(at=now, loss=found, fields=fields, causes=suspects, proved=True))

    def end(self) -> None:
        """A validation is over."""
        if self._left <= 0:
            return
        logged, names = self._trainer.callback_metrics, evaluated_names(self._trainer) or frozenset()
        losses = {
            name: value
            for name, value in logged.items()
            if name in names and isinstance(value, Tensor) and value.numel() == 1 and better(name) == "min"
        }
        if losses:
            self._reads.put(tuple(losses), list(losses.values()))

    def _made_bad(self, batch: Any, suspects: tuple[str, ...], indices: tuple[int, ...]) -> float | None:
        """The loss of a batch, if it is not finite with the values of these fields and finite without."""
        repaired = copy.deepcopy(batch)
        replace_bad(repaired, suspects)
        with isolated(self._trainer, self._module, offload=offload_of(self._module)) as sandbox:
            first, second = (self._losses(sandbox, item, indices) for item in (batch, repaired))
        for name in first.keys() & second.keys():
            if not math.isfinite(first[name]) and math.isfinite(second[name]):
                return first[name]
        return None

    def _losses(self, sandbox: Any, batch: Any, indices: tuple[int, ...]) -> dict[str, float]:
        sandbox.logged.clear()
        try:
            sandbox.validation_step(batch, *indices)
        except Unrepeatable:
            raise
        except Exception:  # a step that cannot be run a second time
            return {}
        wanted = {plain(name) for name in self._bad}
        return {
            plain(name): host_value(value)
            for name, value in sandbox.logged.items()
            if plain(name) in wanted and isinstance(value, Tensor) and value.numel() == 1
        }
