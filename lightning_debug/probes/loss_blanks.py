"""Targets of ctc_loss that are its blank, which stands between symbols and is none itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debug.probes.loss_operands import readable


def blank_targets(given: Mapping[str, Any]) -> int:
    """How many targets, padding aside, are the blank.

    Args:
        given: The arguments of ``ctc_loss``, by name.

    >>> blank_targets({"targets": torch.tensor([[3, 0, 4], [2, 0, 0]]), "target_lengths": (3, 1), "blank": 0})
    1
    """
    targets, lengths, blank = given.get("targets"), given.get("target_lengths"), given.get("blank", 0)
    if not isinstance(targets, Tensor) or not readable(targets) or not isinstance(blank, int):
        return 0
    found = targets.detach() == blank
    if targets.ndim == 2:
        if isinstance(lengths, Tensor) and not readable(lengths):
            return 0
        ends = torch.as_tensor(lengths, device=targets.device)
        if ends.shape != targets.shape[:1]:
            return 0
        found &= torch.arange(targets.shape[1], device=targets.device) < ends[:, None]
    return int(found.sum())
