"""ActivationMonitor: units that died, and units that no longer react."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.callbacks._look_budget import looking, may_begin, may_look
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.activations import ActivationHealth, UnitHealth
from lightning_debug.experiments.clock import working_time
from lightning_debug.experiments.loss_experiments import BrokenOff, NotJudged
from lightning_debug.experiments.model_runs import kept_samples, sandbox_of
from lightning_debug.probes.activation_units import UnitTrace, feeds_layer, is_gate
from lightning_debug.probes.batch_slicing import batch_size

FIRST_LOOK = 20
"""The step of the first look after the one before training."""
GAP = 250
"""Steps from one look to the next, where there is nothing to doubt: twice as many as there were before, up to this."""
GROWTH = 8
"""Late in a long run they are this part of the steps before."""
NEAR, NEAR_LATE, LATE = 5, 10, 100
"""Steps to the next look while there is; ``NEAR_LATE`` from step ``LATE`` on."""
APART = 3
"""Steps from one look to the next at the end of an epoch, where looks are still too few."""
DOUBT = 0.2
"""Share of a layer's units that must be silent or flat in one look for more looks to follow soon."""
WINDOW = 3
"""How many looks in a row, at least, a unit must be silent in."""
WINDOW_SAMPLES = 64
"""How many samples those looks must hold together: small batches take more looks."""
SETTLED = 8
"""Steps before which a look only says how units were at the start."""
SAMPLES = 64

Key = tuple[str, str, str, int, int]


@dataclass
class _Unit:
    silent: Tensor
    flat: Tensor
    facts: dict[str, Any]


class ActivationMonitor(DebugCallback):
    """Looks at the units of activations in isolated forward passes, on a few steps.

    - LD307: units that are 0 for every sample of several batches, where ReLU passes no gradient
    - LD308: sigmoid and tanh units whose derivative is next to 0 for nearly all samples

    A look takes about as long as a step. It is taken before training, at steps 20, 60 and 180, then every 250
    steps, and every eighth part of a run of many thousands; in runs shorter than that at the end of epochs; more rarely
    where that were more than a twentieth of the run (and three seconds). A finding
    needs three looks in a row or more, each at another batch: where one shows a fifth of a layer's units silent, more
    follow within a few steps. Nothing is installed in between, and the run itself is not changed.
    """

    produces: ClassVar[tuple[type[Evidence], ...]] = (ActivationHealth,)

    _batches: int = 0
    _due: int = 0
    _looked: int = 0
    _price: float = 0.0
    _start: dict[Key, _Unit] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins anew."""
        self._batches, self._due, self._looked, self._start = 0, 0, 0, None
        self._doubted: list[int] = []
        self._window: deque[tuple[int, int, dict[Key, _Unit]]] = deque(maxlen=4 * WINDOW)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Looks before some steps."""
        step, self._batches = self._batches, self._batches + 1
        if step >= self._due:
            self._look(trainer, pl_module, batch, batch_idx, step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks when an epoch ends, as long as there were fewer looks than a finding takes."""
        if not trainer.is_last_batch:
            return
        few = SETTLED <= self._batches >= self._looked + APART and not _enough([item[1] for item in self._window])
        if few:
            self._look(trainer, pl_module, batch, batch_idx, self._batches)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_window", None)
        return state

    def _look(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, step: int) -> None:
        usual = FIRST_LOOK - step if step < FIRST_LOOK else max(min(2 * step, GAP), step // GROWTH)
        if self._due <= step:  # one out of turn puts none off
            self._due = step + usual
        self._looked = step
        if not (may_begin(self.session, 1) if self._start is None else may_look(self.session, self._price)):
            return
        begun = working_time()
        with looking(self.session):
            self._look_now(trainer, pl_module, batch, batch_idx, step)
        self._price = working_time() - begun

    def _look_now(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, step: int) -> None:
        with self.attempt("activations", trainer):
            try:
                samples, found = _units(trainer, pl_module, batch, batch_idx)
            except NotJudged as error:
                self.unavailable(ActivationHealth, error.reason, trainer)
                return
            self._judge(trainer, step, samples, found)
            doubtful = step >= SETTLED and any(map(_is_doubtful, found.values()))
            self._doubted = [*self._doubted, samples] if doubtful else []
            if doubtful and not _enough(self._doubted):
                self._due = min(self._due, step + (NEAR if step < LATE else NEAR_LATE))

    def _judge(self, trainer: Trainer, step: int, samples: int, found: dict[Key, _Unit]) -> None:
        if self._start is None:
            self._start = found
        if step < SETTLED:
            return
        self._window.append((step, samples, found))
        if len(self._window) < WINDOW:
            return
        looks = list(self._window)
        while len(looks) > WINDOW and sum(count for _, count, _ in looks[1:]) >= WINDOW_SAMPLES:
            del looks[0]
        layers = []
        for key, unit in found.items():
            history = [seen.get(key) for _, _, seen in looks]
            units = [item for item in history if item is not None]
            if len(units) < len(looks):
                continue
            silent = torch.stack([item.silent for item in units]).all(dim=0)
            before = self._start.get(key)
            early = silent & before.silent if before is not None else torch.zeros_like(silent)
            flat = torch.stack([item.flat for item in units]).all(dim=0)
            layers.append(
                UnitHealth(
                    **unit.facts,
                    units=len(silent),
                    silent=int(silent.sum()),
                    silent_at_start=int(early.sum()),
                    saturated=int(flat.sum()),
                )
            )
        self.session.observe(
            ActivationHealth(
                at=moment(trainer),
                steps=step - looks[0][0],
                looks=len(looks),
                samples=sum(count for _, count, _ in looks),
                layers=tuple(layers),
            )
        )


def _enough(samples: Sequence[int]) -> bool:
    """Whether looks at so many samples each are as many as a finding takes, or as are ever waited for."""
    return len(samples) >= 4 * WINDOW or (len(samples) >= WINDOW and sum(samples) >= WINDOW_SAMPLES)


def _is_doubtful(unit: _Unit) -> bool:
    return int((unit.silent | unit.flat).sum()) > DOUBT * len(unit.silent)


def _units(trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> tuple[int, dict[Key, _Unit]]:
    """The units of one pass in eval mode.

    Raises:
        NotJudged: If the step cannot be run again.
    """
    part = kept_samples(batch, SAMPLES)
    with sandbox_of(trainer, pl_module) as sandbox, sandbox.mode(training=False):
        trace = UnitTrace(pl_module, part)
        try:
            with trace:
                sandbox.training_step(part, batch_idx)
        except Exception as error:
            trace.release()
            raise BrokenOff(f"training_step raises {type(error).__name__} in eval mode: {error}") from error
    found: dict[Key, _Unit] = {}
    repeats: Counter[tuple[str, str, str]] = Counter()
    for layer in trace.layers:
        op = layer.op
        if not trace.note(op).gradient:
            continue
        name = (op.name, op.module, op.line)
        key = (*name, repeats[name], len(layer.silent))
        repeats[name] += 1
        facts = {
            "function": op.name,
            "module": op.module,
            "module_type": op.module_type,
            "line": op.line,
            "is_gate": is_gate(trace, op),
            "feeds_layer": feeds_layer(trace, op),
        }
        found[key] = _Unit(layer.silent, layer.flat, facts)
    trace.release()
    return batch_size(part), found
