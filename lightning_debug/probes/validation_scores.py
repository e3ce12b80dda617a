"""The scores and labels of a validation, and what they cost at the temperature that suits them best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lightning_debug.probes.answers import TEMPERATURES, LossCalls

MOST_ROWS = 8192
"""The first so many answers of a validation are kept."""
MOST_NUMBERS = 2**21
"""And no more than so many numbers."""

_BINARY = functional.binary_cross_entropy_with_logits


class ValidationScores(LossCalls):
    """Keeps what a validation's classification loss receives, while it is entered.

    The loss of a classifier grows with its confidence in wrong answers, though it answers no worse. Scores divided by
    the best common temperature have a loss without that part: what is left tells how well they part the classes.

    >>> scores = ValidationScores()
    >>> with scores:
    ...     _ = functional.cross_entropy(torch.tensor([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 0, 1]))
    >>> round(min(scores.losses()), 2)
    0.64
    """

    functions = (functional.cross_entropy, functional.nll_loss, _BINARY)

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._room = MOST_NUMBERS
        self._calls = self._steps = 0
        self._unclear = False

    def begin_step(self) -> None:
        """Another step begins, which is expected to compute one such loss."""
        self._steps += 1

    def losses(self) -> list[float]:
        """The loss at each temperature; NaN where there are no scores, or it is not clear which are those that count.

        Reads values from the device, once.
        """
        several = self._calls != max(self._steps, 1) or len({item.shape[1] for item in self._rows}) > 1
        if not self._rows or several or self._unclear:
            return [math.nan] * len(TEMPERATURES)
        with torch.no_grad():
            rows, labels = torch.cat(self._rows).float(), torch.cat(self._labels)
            known = (labels >= 0) & (labels < rows.shape[1])
            labels = torch.where(known, labels, torch.full_like(labels, -100))
            found = [functional.cross_entropy(rows / value, labels) for value in TEMPERATURES]
            return [float(item) for item in torch.stack(found).tolist()]

    def heard(self, function: Callable[..., Any], named: Mapping[str, Any]) -> None:
        """Keeps scores and labels, while there is room."""
        self._calls += 1
        scores, labels = named.get("input"), named.get("target")
        if not isinstance(scores, Tensor) or not isinstance(labels, Tensor) or named.get("weight") is not None:
            self._unclear = True
            return
        scores, labels = scores.detach(), labels.detach()
        if function is _BINARY:
            if scores.shape != labels.shape:
                return
            scores = torch.stack([torch.zeros_like(scores), scores], dim=-1).reshape(-1, 2)
            labels = labels.reshape(-1)
        elif labels.is_floating_point() or scores.dim() < 2 or scores.dim() != labels.dim() + 1:
            return
        else:
            scores, labels = scores.movedim(1, -1).reshape(-1, scores.shape[1]), labels.reshape(-1)
        room = min(MOST_ROWS - sum(map(len, self._rows)), self._room // max(1, scores.shape[1]))
        if room > 0 and len(scores) == len(labels):
            self._rows.append(scores[:room].clone())
            self._labels.append(labels[:room].long().clone())
            self._room -= self._rows[-1].numel()
