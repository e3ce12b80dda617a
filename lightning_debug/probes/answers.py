"""How sure a classifier is of right and wrong answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lightning_debug.evidence.answers import AnswerConfidence

MOST_ANSWERS = 4096
TEMPERATURES = [2.0 ** (power / 4) for power in range(-8, 21)]


class Answers(TorchFunctionMode):
    """Notes the scores and labels of the first ``cross_entropy`` that runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: Tensor | None = None
        self.labels: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the call as it is."""
        if func is functional.cross_entropy and self.scores is None:
            named = {**dict(zip(("input", "target"), args, strict=False)), **(kwargs or {})}
            scores, labels = named.get("input"), named.get("target")
            if isinstance(scores, Tensor) and isinstance(labels, Tensor) and not labels.is_floating_point():
                self.scores, self.labels = scores.detach(), labels.detach()
        return func(*args, **(kwargs or {}))


def answer_confidence(scores: Tensor, labels: Tensor, epoch: int) -> AnswerConfidence | None:
    """Measures confidence; ``None`` where there are no labels to compare with.

    Args:
        scores: ``(samples, classes)`` or ``(samples, classes, ...)`` logits.
        labels: ``(samples)`` or ``(samples, ...)``, whole numbers; negative ones are left out.
        epoch: Epoch at whose end.

    >>> found = answer_confidence(torch.tensor([[4.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 1]), 3)
    >>> found.right, found.temperature > 4
    (0.5, True)
    """
    if scores.dim() < 2 or scores.shape[0] != labels.shape[0]:
        return None
    rows = scores.movedim(1, -1).reshape(-1, scores.shape[1])[:MOST_ANSWERS].float().cpu()
    wanted = labels.reshape(-1)[:MOST_ANSWERS].long().cpu()
    kept = (wanted >= 0) & (wanted < rows.shape[1])
    rows, wanted = rows[kept], wanted[kept]
    if not len(rows) or not bool(torch.isfinite(rows).all()):
        return None
    sure, given = rows.softmax(1).max(1)
    right = given == wanted
    losses = functional.cross_entropy(rows, wanted, reduction="none")
    cooled = [float(functional.cross_entropy(rows / value, wanted)) for value in TEMPERATURES]
    return AnswerConfidence(
        epoch=epoch,
        samples=len(rows),
        right=float(right.float().mean()),
        confidence_right=float(sure[right].mean()) if bool(right.any()) else 0.0,
        confidence_wrong=float(sure[~right].mean()) if bool((~right).any()) else 0.0,
        loss_right=float(losses[right].sum()) / len(rows),
        loss_wrong=float(losses[~right].sum()) / len(rows),
        temperature=TEMPERATURES[min(range(len(cooled)), key=cooled.__getitem__)],
    )
