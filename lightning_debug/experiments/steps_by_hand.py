"""Steps of a manual optimization, run again: what goes backward in them is heard, and their optimizers rest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule
from lightning_debug.experiments.isolation import Sandbox
from lightning_debug.experiments.model_runs import unstepped


def is_by_hand(pl_module: LightningModule, step: str) -> bool:
    """Whether a step makes its own updates."""
    return step == "training_step" and not pl_module.automatic_optimization


def heard_again(
    sandbox: Sandbox, pl_module: LightningModule, batch: Any, index: int = 0, *, evaluating: bool, keep: bool = False
) -> Tensor | None:
    """The loss of a step made by hand that is run again, its optimizers at rest; ``None`` where there is none.

    It begins with the state as it is: see :meth:`Sandbox.rewind`, which brings back modes and hooks too. ``keep``: with
    its graph, of what went backward.
    """
    output, losses = step_again(sandbox, pl_module, batch, index, evaluating=evaluating, keep=keep)
    returned = sandbox.loss(output)
    if returned is None or (keep and not returned.requires_grad):
        return mean_of(losses if keep else [loss.detach() for loss in losses])
    return returned


def step_again(
    sandbox: Sandbox, pl_module: LightningModule, batch: Any, index: int = 0, *, evaluating: bool, keep: bool = False
) -> tuple[Any, list[Tensor]]:
    """What such a step returns, and the losses of one value that went backward in it."""
    losses: list[Tensor] = []
    mode: contextlib.AbstractContextManager[Any] = sandbox.mode(False) if evaluating else contextlib.nullcontext()
    with mode, _listening(pl_module, losses, keep=keep), unstepped(pl_module):
        output = sandbox.training_step(batch, index)
    return output, [loss for loss in losses if loss.numel() == 1 and not loss.is_complex()]


def mean_of(losses: list[Tensor]) -> Tensor | None:
    """The mean of what went backward; ``None`` where nothing did."""
    if len(losses) < 2:
        return losses[0] if losses else None
    return torch.stack([loss.reshape(()).float() for loss in losses]).mean()


@contextlib.contextmanager
def _listening(pl_module: LightningModule, losses: list[Tensor], *, keep: bool) -> Iterator[None]:
    """Hears what goes backward, by ``manual_backward`` or by itself, and not a gradient scaler's multiple of it."""
    original, plain, inside = pl_module.manual_backward, Tensor.backward, [False]
    before = vars(pl_module).get("manual_backward")

    def manual_backward(loss: Tensor, *args: Any, **kwargs: Any) -> Any:
        losses.append(loss)
        inside[0] = True
        try:
            return original(loss, *args, **kwargs)
        finally:
            inside[0] = False

    def backward(loss: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not inside[0]:
            losses.append(loss)
        if keep:
            kwargs["retain_graph"] = True
        return plain(loss, *args, **kwargs)  # type: ignore[no-untyped-call]

    vars(pl_module)["manual_backward"] = manual_backward
    Tensor.backward = backward  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Tensor.backward = plain  # type: ignore[method-assign]
        del vars(pl_module)["manual_backward"]
        vars(pl_module).update({} if before is None else {"manual_backward": before})
