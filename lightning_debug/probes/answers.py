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


Single = tuple[Tensor, Tensor, Tensor]
"""Of each answer: the label, the confidence, whether it is right."""


class LossCalls(TorchFunctionMode):
    """Hears what some loss functions are given, while it is entered; each call runs as it is."""

    functions: tuple[Callable[..., Any], ...] = ()

    def heard(self, function: Callable[..., Any], named: Mapping[str, Any]) -> None:
        """Takes one call: ``input``, ``target``, ``weight`` and what else was given by name."""
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the call as it is."""
        if func in self.functions:
            self.heard(func, {**dict(zip(("input", "target", "weight"), args, strict=False)), **(kwargs or {})})
        return func(*args, **(kwargs or {}))


class Answers(LossCalls):
    """Notes the scores and labels of the first ``cross_entropy`` that runs inside."""

    functions = (functional.cross_entropy,)

    def __init__(self) -> None:
        super().__init__()
        self.scores: Tensor | None = None
        self.labels: Tensor | None = None

    def heard(self, function: Callable[..., Any], named: Mapping[str, Any]) -> None:
        """Notes the first one that has labels."""
        scores, labels = named.get("input"), named.get("target")
        if self.scores is not None or not isinstance(scores, Tensor) or not isinstance(labels, Tensor):
            return
        if not labels.is_floating_point():
            self.scores, self.labels = scores.detach(), labels.detach()


def answer_confidence(
    scores: Tensor, labels: Tensor, epoch: int, before: Single | None = None
) -> tuple[AnswerConfidence, Single] | None:
    """Measures confidence, and gives the single answers; ``None`` where there are no labels to compare with.

    Args:
        scores: ``(samples, classes)`` or ``(samples, classes, ...)`` logits.
        labels: ``(samples)`` or ``(samples, ...)``, whole numbers; negative ones are left out.
        epoch: Epoch at whose end.
        before: The single answers to the same samples, measured earlier.

    >>> found, single = answer_confidence(torch.tensor([[4.0, 0.0], [4.0, 0.0]]), torch.tensor([0, 1]), 3)
    >>> found.right, found.temperature > 4
    (0.5, True)
    >>> found, _ = answer_confidence(torch.tensor([[2.0, 0.0], [6.0, 0.0]]), torch.tensor([0, 1]), 9, single)
    >>> found.less_sure_right, found.surer_wrong
    (0.5, 0.5)
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
    less = surer = None
    if before is not None and torch.equal(before[0], wanted):
        less = float((right & before[2] & (sure < before[1])).float().mean())
        surer = float((~right & (sure > before[1])).float().mean())
    found = AnswerConfidence(
        epoch=epoch,
        samples=len(rows),
        right=float(right.float().mean()),
        confidence_right=float(sure[right].mean()) if bool(right.any()) else 0.0,
        confidence_wrong=float(sure[~right].mean()) if bool((~right).any()) else 0.0,
        loss_right=float(losses[right].sum()) / len(rows),
        loss_wrong=float(losses[~right].sum()) / len(rows),
        temperature=TEMPERATURES[min(range(len(cooled)), key=cooled.__getitem__)],
        less_sure_right=less,
        surer_wrong=surer,
    )
    return found, (wanted, sure, right)
