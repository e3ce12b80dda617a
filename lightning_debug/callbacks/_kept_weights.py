"""The weights of a few epochs, kept on the host or on disk until it is known which are wanted."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._lightning import LightningModule


class KeptWeights:
    """Copies of a module's ``state_dict`` by index.

    Args:
        folder: Where to keep them; in memory when ``None``.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder
        self._held: dict[int, Any] = {}

    @property
    def indices(self) -> tuple[int, ...]:
        """What is held, oldest first."""
        return tuple(sorted(self._held))

    def keep(self, index: int, pl_module: LightningModule) -> None:
        """Copies the module's weights and buffers to the host."""
        state = {name: _copy(value) for name, value in pl_module.state_dict().items()}
        if self._folder is None:
            self._held[index] = state
            return
        os.makedirs(self._folder, exist_ok=True)
        path = os.path.join(self._folder, f"weights_{index}.pt")
        torch.save(state, path)
        self._held[index] = path

    @staticmethod
    def size(pl_module: LightningModule) -> int:
        """Bytes that a copy takes."""
        values = pl_module.state_dict().values()
        return sum(item.numel() * item.element_size() for item in values if isinstance(item, Tensor))

    def drop(self, index: int) -> None:
        """Forgets a copy."""
        held = self._held.pop(index, None)
        if isinstance(held, str) and os.path.exists(held):
            os.remove(held)

    def clear(self) -> None:
        """Forgets all copies."""
        for index in self.indices:
            self.drop(index)
        if self._folder is not None and os.path.isdir(self._folder) and not os.listdir(self._folder):
            os.rmdir(self._folder)

    def restore(self, index: int, pl_module: LightningModule) -> None:
        """Puts a copy into the module, in place."""
        held = self._held[index]
        state = torch.load(held, map_location="cpu", weights_only=True) if isinstance(held, str) else held
        with torch.no_grad():
            pl_module.load_state_dict(state)

    def state(self) -> dict[int, Any]:
        """What a checkpoint needs: the copies, or the files they are in."""
        return dict(self._held)

    def load(self, state: dict[int, Any]) -> None:
        """Takes up what :meth:`state` gave; files that are gone are passed over."""
        self._held = {
            int(index): held for index, held in state.items() if not isinstance(held, str) or os.path.exists(held)
        }


def _copy(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value
