"""Root mean squares of every weight's gradient, in one pass that reads nothing on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence import Moment
from lightning_debug.evidence.gradients import GradientProfile, LayerGradient

MOST_LAYERS = 256
"""Weights of a model that are looked at; of a deeper one, evenly spread."""


def layers_of(root: nn.Module, optimizer: Any) -> list[tuple[str, nn.Parameter]]:
    """The weights of an optimizer that have an ordinary gradient now, in the model's order."""
    owned = {id(item) for group in getattr(optimizer, "param_groups", ()) for item in group.get("params", ())}
    found = []
    for name, parameter in root.named_parameters():
        grad = parameter.grad
        usual = grad is not None and grad.layout == torch.strided and not hasattr(grad, "to_local")
        if usual and parameter.ndim > 1 and id(parameter) in owned and parameter.requires_grad:
            found.append((name, parameter))
    if len(found) > MOST_LAYERS:
        picks = torch.linspace(0, len(found) - 1, MOST_LAYERS).round().long().tolist()
        found = [found[index] for index in picks]
    return found


@torch.no_grad()
def layer_norms(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Norms of the gradients, then of the weights: tensors of one element on one device.

    Empty for a model that lies on several devices: then nothing is measured.
    """
    if len({item.device for item in parameters}) != 1:
        return []
    gradients = [item.grad for item in parameters if item.grad is not None]
    return [*torch._foreach_norm(gradients), *torch._foreach_norm(list(parameters))]  # noqa: SLF001 -- no public name


def profile(
    layers: Sequence[tuple[str, int]], norms: Sequence[float], *, index: int, optimizer: str, at: Moment
) -> GradientProfile:
    """The evidence from norms that have arrived.

    Args:
        layers: Name and number of values of each weight.
        norms: Norms of the gradients, then of the weights.
        index: The optimizer's position.
        optimizer: Its class name.
        at: When that was.
    """
    count = len(layers)
    rows = tuple(
        LayerGradient(name=name, values=values, gradient=gradient / values**0.5, weight=weight / values**0.5)
        for (name, values), gradient, weight in zip(layers, norms[:count], norms[count:], strict=True)
    )
    return GradientProfile(layers=rows, index=index, optimizer=optimizer, at=at)
