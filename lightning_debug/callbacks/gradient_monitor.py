"""GradientMonitor: the gradient of every layer, a few times in a run."""

from __future__ import annotations

from typing import Any

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._guard_state import place_of
from lightning_debug.callbacks._lightning import LightningModule, Trainer, moment
from lightning_debug.callbacks._ranks import is_sharded
from lightning_debug.evidence import Moment
from lightning_debug.evidence.gradients import GradientProfile
from lightning_debug.probes.deferred import Deferred
from lightning_debug.probes.gradient_profile import layer_norms, layers_of, profile
from lightning_debug.schedule import at, either, every, first

AUDITED = either(first(2), at(10, 20, 50, 100, 200, 400), every(1000))
"""Steps of each optimizer at which every layer is looked at."""

Tag = tuple[Moment, tuple[tuple[str, int], ...], int, str]


class GradientMonitor(DebugCallback):
    """Measures the gradient of every layer at a few optimizer steps, so that one can see where it vanishes.

    One pass over the gradients of those steps, before they are clipped; nothing is read from the device that would
    make the host wait, and nothing happens at the other steps. Not where parameters are sharded over ranks.

    | what is logged | as |
    |---|---|
    | the first layer's gradient (root mean square) over the last one's | ``gradient_first_to_last`` |

    Records :class:`~lightning_debug.evidence.gradients.GradientProfile`.
    """

    produces = (GradientProfile,)

    _reads: Deferred[Tag] | None = None
    _steps: dict[int, int]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins anew."""
        self._steps, self._reads = {}, None
        if is_sharded(trainer) or type(trainer.strategy).__name__ == "DeepSpeedStrategy":
            self.unavailable(GradientProfile, "gradients are sharded over ranks", trainer)
        else:
            self._reads = Deferred()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Measures the layers, at the steps that are looked at."""
        if self._reads is None:
            return
        index, _ = place_of(optimizer, trainer.optimizers)
        step = self._steps.get(index, 0)
        self._steps[index] = step + 1
        if not AUDITED(step):
            return
        layers = layers_of(pl_module, optimizer)
        norms = layer_norms([parameter for _, parameter in layers]) if layers else []
        if norms:
            names = tuple((name, parameter.numel()) for name, parameter in layers)
            self._reads.put((moment(trainer), names, index, type(optimizer).__name__), norms)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes in what has arrived."""
        if self._reads is not None:
            self._observe(self._reads.arrived())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes in the rest."""
        if self._reads is not None:
            self._observe(self._reads.wait())
            self._reads = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Takes in the rest."""
        if self._reads is not None:
            self._observe(self._reads.wait())
            self._reads = None

    def _observe(self, arrived: list[tuple[Tag, tuple[float, ...]]]) -> None:
        for (when, layers, index, optimizer), norms in arrived:
            self.session.observe(profile(layers, norms, index=index, optimizer=optimizer, at=when))

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_reads", None)  # pinned memory and events
        return state
