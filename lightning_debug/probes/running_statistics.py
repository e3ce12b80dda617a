"""Running statistics of normalisation layers, kept so that a step that is left out leaves none behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class RunningStatistics:
    """A copy of the running mean, variance and count of every batch-norm and instance-norm layer.

    Args:
        root: The model.

    >>> layer = nn.BatchNorm1d(2)
    >>> kept = RunningStatistics(layer)
    >>> kept.keep()
    >>> _ = layer(torch.full((4, 2), torch.nan))
    >>> kept.restore()
    >>> layer.running_mean, layer.num_batches_tracked
    (tensor([0., 0.]), tensor(0))
    """

    def __init__(self, root: nn.Module) -> None:
        self._layers = [item for item in root.modules() if getattr(item, "track_running_stats", False)]
        self._saved: list[Tensor] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Copies them as they are now. Nothing is read on the host."""
        live = self._live()
        if [(item.shape, item.device) for item in live] != [(item.shape, item.device) for item in self._saved]:
            self._saved = [item.clone() for item in live]
        elif live:
            _copy(self._saved, live)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts them back."""
        live = self._live()
        if len(live) == len(self._saved) and live:
            _copy(live, self._saved)

    def _live(self) -> list[Tensor]:
        # a view of its own version: a graph that is still to run backward may hold them
        return [item.data for layer in self._layers for item in layer.buffers(recurse=False)]


def _copy(to: list[Tensor], of: list[Tensor]) -> None:
    groups: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(to, of, strict=True):
        targets, sources = groups.setdefault((target.device, target.dtype), ([], []))
        targets.append(target)
        sources.append(source)
    for targets, sources in groups.values():
        torch._foreach_copy_(targets, sources)
