"""Adam on plain tensors: small, of no state beyond its own, and indifferent to the scale of gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

TINY = 1e-16


class Adam:
    """Steps down the gradients that parameters hold.

    Unlike ``torch.optim.Adam`` it takes sparse gradients, keeps its averages in at least single precision, and
    moves however small the gradients are, since what is asked is whether there is a way down at all.

    Args:
        parameters: What to step on.
        rate: The learning rate.

    >>> x = torch.tensor([4.0], requires_grad=True)
    >>> adam = Adam([x], 0.5)
    >>> for _ in range(20):
    ...     adam.clear()
    ...     x.square().sum().backward()
    ...     adam.step()
    >>> abs(x.item()) < 1.0
    True
    """

    def __init__(self, parameters: Iterable[Tensor], rate: float) -> None:
        self.rate = rate
        self._parameters = list(parameters)
        self._averages: dict[int, tuple[Tensor, Tensor]] = {}
        self._count = 0

    def clear(self) -> None:
        """Takes the gradients away."""
        for item in self._parameters:
            item.grad = None

    @torch.no_grad()
    def step(self, first: float = 0.9, second: float = 0.99) -> None:
        """One step on all parameters that have a gradient."""
        self._count += 1
        for index, item in enumerate(self._parameters):
            if item.grad is None:
                continue
            gradient = item.grad.to_dense() if item.grad.layout is not torch.strided else item.grad
            if item.is_complex():
                gradient = torch.view_as_real(gradient)
            gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
            mean, square = self._averages.get(index, (None, None))
            if mean is None or square is None:
                mean, square = torch.zeros_like(gradient), torch.zeros_like(gradient)
                self._averages[index] = mean, square
            mean.mul_(first).add_(gradient, alpha=1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            size = (square / (1 - second**self._count)).sqrt_().add_(TINY)
            move = (mean / (1 - first**self._count)).div_(size).mul_(-self.rate)
            target = torch.view_as_real(item) if item.is_complex() else item
            target.add_(move.to(target.dtype))


def gradient_states(named: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """By name: whether a parameter has ``"some"`` gradient, one that is ``"zero"`` throughout, or ``"none"``.

    ``"nonfinite"`` where it holds NaN or infinite values.
    """
    found = {}
    for name, item in named:
        if item.grad is None:
            found[name] = "none"
            continue
        values = item.grad.coalesce().values() if item.grad.is_sparse else item.grad
        if not bool(torch.isfinite(values).all()):
            found[name] = "nonfinite"
        else:
            found[name] = "some" if bool((values != 0).any()) else "zero"
    return found
