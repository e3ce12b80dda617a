"""A quantile of the gradient norms that a run has had, kept on their device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SIZE = 512
"""How many of the latest norms count."""

EVERY = 16
"""After how many norms the quantile is taken anew."""


class NormHistory:
    """The latest gradient norms of one optimizer, and the threshold that follows from them.

    Nothing is read on the host, and the threshold changes on a fixed schedule: a run can be repeated. Norms that are
    not finite do not count.

    Args:
        quantile: The share of steps whose norm stays at or below the threshold.
        warm_up: How many finite norms there must be before there is a threshold (asked again every 16 norms).

    >>> history = NormHistory(0.5, warm_up=3)
    >>> for norm in (1.0, 2.0, 9.0):
    ...     history.add(torch.tensor(norm))
    >>> history.limit
    tensor(2.)
    """

    def __init__(self, quantile: float, warm_up: int) -> None:
        self._quantile, self._warm_up = quantile, min(warm_up, SIZE)
        self._norms: Tensor | None = None
        self._count = 0
        self.limit: Tensor | None = None

    @torch.no_grad()
    def add(self, norm: Tensor) -> None:
        """Takes in the norm of a step, of one element."""
        norm = norm.detach().reshape(())
        if self._norms is None:
            self._norms = torch.full((SIZE,), math.inf, dtype=norm.dtype, device=norm.device)
        norms = self._norms = self._norms.to(norm.device)
        norms[self._count % SIZE] = torch.where(torch.isfinite(norm), norm, math.inf)
        self._count += 1
        if self._count >= self._warm_up and (self.limit is None or self._count % EVERY == 0):
            self._settle(norms)

    def _settle(self, norms: Tensor) -> None:
        finite = torch.isfinite(norms).sum()
        place = ((finite - 1).clamp(min=0) * self._quantile).long().reshape(1)
        limit = norms.sort().values.gather(0, place).squeeze(0)
        self.limit = torch.where(finite >= self._warm_up, limit, math.inf)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs; reads on the host."""
        norms = self._norms[: self._count].tolist() if self._norms is not None else []
        return {"count": self._count, "norms": norms, "limit": None if self.limit is None else float(self.limit)}

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes up what :meth:`state` gave."""
        self._count = int(state["count"])
        self._norms = torch.full((SIZE,), math.inf, device=device)
        self._norms[: len(state["norms"])] = torch.tensor(state["norms"], device=device)
        self.limit = None if state["limit"] is None else torch.tensor(state["limit"], device=device)


class Histories:
    """One :class:`NormHistory` for each optimizer, where there is a quantile at all.

    Args:
        quantile: As above; ``None`` for no threshold.
        warm_up: As above.

    >>> Histories(None, 3).limit(0) is None
    True
    """

    def __init__(self, quantile: float | None, warm_up: int) -> None:
        self._quantile, self._warm_up = quantile, warm_up
        self._known: dict[int, NormHistory] = {}

    def limit(self, index: int) -> Tensor | None:
        """The threshold for one optimizer, if there is one yet."""
        known = self._known.get(index)
        return None if known is None else known.limit

    def add(self, index: int, norm: Tensor) -> None:
        """Takes in a norm of one optimizer, where there is a quantile."""
        if self._quantile is not None:
            self._of(index, self._quantile).add(norm)

    def _of(self, index: int, quantile: float) -> NormHistory:
        return self._known.setdefault(index, NormHistory(quantile, self._warm_up))

    def state(self) -> dict[int, Any]:
        """What a checkpoint needs; reads on the host."""
        return {index: history.state() for index, history in self._known.items()}

    def load(self, state: Mapping[Any, Any], device: torch.device) -> None:
        """Takes up what :meth:`state` gave."""
        if self._quantile is None:
            return
        for index, known in state.items():
            self._of(int(index), self._quantile).load(known, device)
