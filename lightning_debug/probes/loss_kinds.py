"""Which loss functions of torch a step calls, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

from lightning_debug.probes.loss_vocabulary import LOSS_FUNCTIONS, SYMMETRIC


class LossNames(TorchFunctionMode):
    """Notes the names of the loss functions that run inside.

    >>> import torch
    >>> with LossNames() as seen:
    ...     _ = torch.nn.MSELoss()(torch.zeros(2), torch.ones(2))
    >>> sorted(seen.names), seen.distance
    (['mse_loss'], True)
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the call as it is."""
        name = getattr(func, "__name__", "")
        if name in LOSS_FUNCTIONS:
            self.names.add(name)
        return func(*args, **(kwargs or {}))

    @property
    def distance(self) -> bool:
        """Whether these are distances from targets, all of them: such a loss cannot rise while answers improve."""
        return bool(self.names) and self.names <= SYMMETRIC
