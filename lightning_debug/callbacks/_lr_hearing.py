"""What steps made by hand let be heard: the losses that go backward, and which optimizer steps then."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from lightning_debug.callbacks import _ranks
from lightning_debug.callbacks._lightning import LightningModule, Trainer

FEW = 8
"""Steps of another optimizer from which on its losses have a course."""


class Hearing:
    """Listens to the steps of one optimizer and of those beside it.

    Args:
        trainer: The Trainer, in fit.
        pl_module: Its module, whose optimization is manual.
        index: Which optimizer.
    """

    def __init__(self, trainer: Trainer, pl_module: LightningModule, index: int) -> None:
        self._trainer, self._module = trainer, pl_module
        self._optimizer: Any = trainer.optimizers[index]
        self._seen: list[torch.Tensor] = []
        self._own: list[torch.Tensor] = []
        self._others: list[tuple[int, torch.Tensor]] = []
        self._courses: dict[float, list[tuple[int, torch.Tensor]]] = {}
        self._inside = False
        self.stepped = 0
        """Steps of the optimizer since the beginning."""
        self.heard = False
        """Whether its steps can be heard."""

    def begin(self) -> None:
        """Starts to listen, after a rewind, which takes this off again."""
        original: Callable[..., Any] = self._module.manual_backward
        self._others = []

        def manual_backward(loss: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self._seen.append(loss.detach())
            self._inside = True  # a scaler's multiple goes backward there
            try:
                return original(loss, *args, **kwargs)
            finally:
                self._inside = False

        vars(self._module)["manual_backward"] = manual_backward
        self.heard = hasattr(self._optimizer, "register_step_post_hook")
        for index, optimizer in enumerate(self._trainer.optimizers):
            if hasattr(optimizer, "register_step_post_hook"):
                own = optimizer is self._optimizer
                optimizer.register_step_post_hook(self._step_of_own if own else self._step_of_other(index))

    def _step_of_own(self, *_: Any) -> None:
        self.stepped += 1
        self._own += self._seen[-1:]

    def _step_of_other(self, index: int) -> Callable[..., None]:
        return lambda *_: self._others.extend((index, loss.float().mean()) for loss in self._seen[-1:])

    def at(self, lr: float) -> None:
        """Says at which rate the steps to come are made. A trial keeps one; of sweeps nothing is asked."""
        self._courses[lr] = self._others

    def forget(self) -> int:
        """Forgets the losses of the batch before; the optimizer's steps until now."""
        self._seen.clear()
        self._own.clear()
        return self.stepped

    @contextlib.contextmanager
    def tensors(self) -> Iterator[None]:
        """Hears what goes backward by itself (``loss.backward()``) too."""
        original: Callable[..., Any] = torch.Tensor.backward

        def backward(loss: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self._inside and loss.numel() == 1:
                self._seen.append(loss.detach())
            return original(loss, *args, **kwargs)

        torch.Tensor.backward = backward  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            torch.Tensor.backward = original  # type: ignore[method-assign]

    def loss(self, returned: torch.Tensor | None) -> torch.Tensor | None:
        """Of several optimizers: the last loss before this one's step. Else what is returned, or went backward."""
        if len(self._trainer.optimizers) > 1:
            return self._own[-1] if self._own else None
        if returned is not None:
            return returned
        return self._seen[-1] if self._seen else None

    def pull(self, lr: float, in_use: float) -> tuple[int, float, float] | None:
        """Another optimizer whose loss ends higher where this one trains at ``lr``: its index, and both losses.

        Higher is a fifth above what it ends at where this one trains at the rate in use, and by its own noise. All
        ranks call it, and have the same answer.
        """
        for index in range(len(self._trainer.optimizers)):
            ends = []
            for rate in (in_use, lr):
                losses = [loss for at, loss in self._courses.get(rate, []) if at == index]
                known = torch.stack(losses[-max(1, len(losses) // 4) :]).double() if len(losses) >= FEW else None
                ends += [math.nan, 0.0] if known is None else [float(known.mean()), float(known.std(correction=0))]
            first, noise, last, later = _ranks.mean(ends, self._trainer)
            if last - first > 0.2 * abs(first) + max(noise, later):  # not where one is NaN
                return index, first, last
        return None
