"""The update of one parameter group, from the real change of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.optimization import GroupUpdate


def group_update(
    name: str, index: int, group: Mapping[str, Any], before: Mapping[int, Tensor], optimizer: Any
) -> Callable[[], list[GroupUpdate]]:
    """Sums over one group, on the device; read when called."""
    sums: dict[str, Tensor | float] = dict.fromkeys(("w", "u", "g", "s", "mw", "mg"), 0.0)
    for parameter in group["params"]:
        old, grad = before.get(id(parameter)), parameter.grad
        if (
            old is None
            or grad is None
            or grad.layout != torch.strided
            or old.is_complex()
            or not old.is_floating_point()
        ):
            continue
        old64, grad64 = old.double(), grad.detach().double()
        delta = parameter.detach().double() - old64
        weight, slope = old64.square().sum(), (grad64 * delta).sum()
        gradient = grad64.square().sum()
        home = sums["w"].device if isinstance(sums["w"], Tensor) else weight.device
        for key, value in (("w", weight), ("u", delta.square().sum()), ("g", gradient), ("s", slope)):
            sums[key] = sums[key] + value.to(home)
        if old.ndim > 1:
            sums["mw"], sums["mg"] = sums["mw"] + weight.to(home), sums["mg"] + gradient.to(home)
    rate, decay = group.get("lr"), group.get("weight_decay", 0.0)
    decoupled = "AdamW" in type(optimizer).__name__ or bool(group.get("decoupled_weight_decay", False))

    def read() -> list[GroupUpdate]:
        if not isinstance(sums["w"], Tensor):
            return []
        number = {key: float(value) for key, value in sums.items()}
        return [
            GroupUpdate(
                optimizer=name,
                group=index,
                rate=plain_rate(rate),
                weight_decay=float(decay) if isinstance(decay, (int, float)) else 0.0,
                decoupled=decoupled,
                maximize=bool(group.get("maximize", False)),
                weight_norm=number["w"] ** 0.5,
                update_norm=number["u"] ** 0.5,
                gradient_norm=number["g"] ** 0.5,
                slope=number["s"],
                matrix_norm=number["mw"] ** 0.5,
                matrix_gradient_norm=number["mg"] ** 0.5,
            )
        ]

    return read


def rate_in_use(optimizers: Iterable[Any]) -> float | None:
    """The highest learning rate of all groups; ``None`` where one is not a number."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = [plain_rate(group.get("lr")) for group in groups]
    known = [rate for rate in rates if rate is not None]
    return max(known) if known and len(known) == len(rates) else None


def plain_rate(value: Any) -> float | None:
    """A learning rate as a number; reads on the host where it is a tensor."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    return float(value) if isinstance(value, (int, float)) else None
