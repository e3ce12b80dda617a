"""Evidence about activations: units that never act, and units that no longer react."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class UnitHealth:
    """The units of one activation, over all looks so far.

    Args:
        function: ``"relu"``, ``"sigmoid"``, ``"tanh"`` …
        module: Path of the innermost module whose ``forward`` called it; ``""`` for the root.
        module_type: Class name of that module.
        line: The user's line.
        units: How many units it has: features, or channels.
        silent: Units that were 0 for every sample and at every position, in every look of the window.
        silent_at_start: Of these, units that were so before training as well.
        saturated: Units whose derivative was below ``1e-3`` for at least 90 % of the values of every look.
        is_gate: Whether its output is multiplied by another activation, as in an LSTM or a gated layer.
        feeds_layer: Whether a linear layer or convolution takes its output, past reshaping, norms and pooling.
    """

    function: str
    module: str = ""
    module_type: str = ""
    line: str = ""
    units: int = 0
    silent: int = 0
    silent_at_start: int = 0
    saturated: int = 0
    is_gate: bool = False
    feeds_layer: bool = True


@dataclass(frozen=True, kw_only=True)
class ActivationHealth(Evidence):
    """What a window of looks at the activations of a model shows.

    Args:
        steps: Training steps between the first and the last look of the window.
        looks: How many looks it has, each at another batch.
        samples: Samples seen in them.
        layers: The activations.
    """

    steps: int = 0
    looks: int = 0
    samples: int = 0
    layers: tuple[UnitHealth, ...] = ()
