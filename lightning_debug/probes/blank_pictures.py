"""Pictures of one value a channel that come again and again: files that were not found, before they were normalised."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

MOST_CHANNELS = 4
MOST_KINDS = 64
"""So many different ones are told apart; further ones count as others."""
ONE = 0.9
"""Share that one has of all of them: where there are others, such as patches of colour, they are no holes."""
GLANCE = 16
"""So many values of each picture are looked at before all of them are."""


class BlankPictures:
    """Counts equal pictures of one value a channel.

    Args:
        shape: Of a sample.
        positions: The places in a sample read flat whose values are given.

    >>> pictures = torch.randn(6, 3, 8, 8)
    >>> pictures[::2] = torch.tensor([-1.8, -2.0, -1.6]).view(3, 1, 1)
    >>> blank = BlankPictures((3, 8, 8), torch.arange(192))
    >>> blank.add(pictures.flatten(1).numpy(), pictures)
    >>> blank.most
    3
    """

    def __init__(self, shape: tuple[int, ...], positions: Tensor) -> None:
        self._last = len(shape) == 3 and shape[0] > MOST_CHANNELS >= shape[2]
        self._heads: npt.NDArray[Any] | None = None
        self._kinds: Counter[tuple[float, ...]] = Counter()
        self._all = 0
        if len(shape) == 3 and min(shape[0], shape[2]) <= MOST_CHANNELS:
            places = positions.numpy()
            channels = places % shape[2] if self._last else places // (shape[1] * shape[2])
            _, first, which = np.unique(channels, return_index=True, return_inverse=True)
            self._heads = first[which]

    def add(self, values: npt.NDArray[Any], rows: Tensor) -> None:
        """Takes some pictures.

        Args:
            values: Their values at the places chosen.
            rows: The pictures themselves, as many.
        """
        if self._heads is None:
            return
        heads = self._heads[:GLANCE]
        places = np.flatnonzero((values[:, :GLANCE] == values[:, heads]).all(1))
        places = places[(values[places] == values[places][:, self._heads]).all(1)] if len(places) else places
        if not len(places):
            return
        whole = rows[torch.from_numpy(places)]
        whole = (whole.movedim(-1, 1) if self._last else whole).flatten(2)
        whole = whole[(whole == whole[:, :, :1]).all(2).all(1)][:, :, 0]
        for kind in map(tuple, whole.double().tolist()):
            self._all += 1
            if kind in self._kinds or len(self._kinds) < MOST_KINDS:
                self._kinds[kind] += 1

    @property
    def most(self) -> int:
        """How often one came that hardly any other stands beside; one that is all 0 does not count."""
        kind, count = max(self._kinds.items(), key=lambda item: item[1], default=((), 0))
        return count if any(kind) and count >= ONE * self._all else 0
