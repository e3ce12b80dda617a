"""NormWatch: over how many values unsynchronised batch-norms average in one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from lightning_debug.evidence.ranks import RankNorm


class NormWatch:
    """Notes what every batch-norm in train mode is given, until :meth:`release`.

    Args:
        root: The model.
        looks_away: Whether what runs just now is not to be noted.
    """

    def __init__(self, root: nn.Module, looks_away: Callable[[], bool] = bool) -> None:
        self._looks_away = looks_away
        self.found: dict[str, RankNorm] = {}
        self._handles: list[RemovableHandle] = []
        for path, module in root.named_modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                self._handles.append(module.register_forward_pre_hook(self._noted(path)))

    def _noted(self, path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            value = inputs[0] if inputs else None
            if not module.training or self._looks_away() or path in self.found or not isinstance(value, Tensor):
                return
            if value.ndim > 1 and value.shape[1]:
                values = value.numel() // value.shape[1]
                kind = type(module).__name__
                self.found[path] = RankNorm(path=path, class_name=kind, samples=value.shape[0], values=values)

        return hook

    def release(self) -> None:
        """Takes the hooks off; harmless when repeated."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
