"""Evidence about gradients, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class LayerGradient:
    """The gradient of one layer's weight.

    Args:
        name: The parameter's path.
        values: Its number of values.
        gradient: Root mean square of its gradient, before clipping.
        weight: Root mean square of its values.
    """

    name: str
    values: int
    gradient: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class GradientProfile(Evidence):
    """The gradients of the weights at one optimizer step, in the order in which the model holds them.

    Args:
        layers: Weights of two dimensions or more that are trained and had a gradient.
        index: The optimizer's position among the Trainer's.
        optimizer: Its class name.
    """

    layers: tuple[LayerGradient, ...] = ()
    index: int = 0
    optimizer: str = ""

    def scalars(self) -> Mapping[str, float]:
        """The ratio of the first layer's gradient to the last one's.

        >>> layers = [LayerGradient(name=n, values=4, gradient=g, weight=1.0) for n, g in (("a", 0.1), ("b", 0.2))]
        >>> GradientProfile(layers=tuple(layers)).scalars()
        {'gradient_first_to_last': 0.5}
        """
        if len(self.layers) < 2 or self.layers[-1].gradient <= 0:
            return {}
        return {"gradient_first_to_last": self.layers[0].gradient / self.layers[-1].gradient}
