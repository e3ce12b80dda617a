"""What happens to gradients between the backward pass and the gradient scaler's unscaling, for a few steps."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.optimization import ScaledClipping
from lightning_debug.probes.gradient_norms import local
from lightning_debug.probes.source import display_path, is_installed

STEPS = 16
"""After how many unscalings a scaler is no longer watched, whatever it has shown."""

_CLIPS = re.compile(r"\bclip_grad|\bclip_gradients\b")
_PLACES = ("training_step", "on_after_backward", "backward", "optimizer_step")


class ScaledGradients:
    """Norms and largest values of each optimizer's gradients as they arrive, and when the scaler unscales them.

    Hooks on parameters, and the scaler's own method, are in place until :meth:`remove`.

    Args:
        scaler: An enabled ``torch.amp.GradScaler``.
        parameters: Those to watch.
    """

    def __init__(self, scaler: Any, parameters: Iterable[Tensor]) -> None:
        self._scaler = scaler
        self._arrived: dict[int, Tensor] = {}
        self._pairs: list[tuple[Any, Tensor]] = []
        self._handles: list[Any] = [
            item.register_post_accumulate_grad_hook(self._arrival)  # type: ignore[no-untyped-call]
            for item in parameters
            if item.requires_grad and item.is_leaf
        ]
        self._unscale = scaler.unscale_
        scaler.unscale_ = self._before_unscaling

    def remove(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        vars(self._scaler).pop("unscale_", None)

    def __len__(self) -> int:
        """How many unscalings were seen."""
        return len(self._pairs)

    @torch.no_grad()
    def _arrival(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._arrived[id(parameter)] = _sizes(parameter.grad)

    @torch.no_grad()
    def _before_unscaling(self, optimizer: Any) -> Any:
        arrived, present = [], []
        for group in optimizer.param_groups:
            for item in group["params"]:
                known = self._arrived.pop(id(item), None)
                if known is not None and item.grad is not None:
                    arrived.append(known)
                    present.append(_sizes(item.grad))
        scale = getattr(self._scaler, "_scale", None)
        if arrived and isinstance(scale, Tensor) and len(self._pairs) < STEPS:
            sizes = [size for one in (arrived, present) for size in _together(torch.stack(one))]
            self._pairs.append((optimizer, torch.stack([*sizes, scale.reshape(()).to(sizes[0])])))
        return self._unscale(optimizer)

    def evidence(self, optimizers: list[Any], **how: Any) -> list[ScaledClipping]:
        """What was seen, for each optimizer. Reads on the host."""
        found = []
        for index, optimizer in enumerate(optimizers):
            rows = [pair[1] for pair in self._pairs if getattr(pair[0], "optimizer", pair[0]) is optimizer]
            rows = torch.stack(rows).tolist() if rows else []
            rows = [row for row in rows if all(map(math.isfinite, row))]
            if rows:
                arrived, arrived_peaks, clipped, clipped_peaks, scales = zip(*rows, strict=True)
                same = {"scales": scales, "index": index, **how}
                found.append(ScaledClipping(arrived=arrived, clipped=clipped, **same))
                found.append(ScaledClipping(arrived=arrived_peaks, clipped=clipped_peaks, size="value", **same))
        return found


def _sizes(gradient: Tensor) -> Tensor:
    """The norm of a gradient and its largest absolute value."""
    held = local(gradient)
    norm: Tensor = torch.linalg.vector_norm(held, dtype=torch.float32)
    peak: Tensor = torch.linalg.vector_norm(held, math.inf, dtype=torch.float32) if held.numel() else norm
    return torch.stack([norm, peak])


def _together(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The same of several gradients as one."""
    return torch.linalg.vector_norm(sizes[:, 0]), sizes[:, 1].max()


def own_scalers(module: nn.Module) -> list[Any]:
    """The gradient scalers that a module keeps as attributes of its own."""
    return [item for item in vars(module).values() if isinstance(item, torch.amp.GradScaler) and item.is_enabled()]


def clipping_line(module: Any) -> str:
    """``file.py:31`` of the one line of the module's own hooks that clips gradients; empty where it is not plain."""
    found = []
    for name in _PLACES:
        method = getattr(type(module), name, None)
        try:
            lines, start = inspect.getsourcelines(method)  # type: ignore[arg-type]
            file = inspect.getsourcefile(method)  # type: ignore[arg-type]
        except (OSError, TypeError):
            continue
        if file is not None and not is_installed(file):
            found += [f"{display_path(file)}:{start + i}" for i, line in enumerate(lines) if _CLIPS.search(line)]
    return found[0] if len(found) == 1 else ""
