"""The area under the ROC curve that scores and labels give, and the one that decisions in place of scores give."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from lightning_debug.probes.metric_values import Answers

RANKED = re.compile(r"(?i:(^|[^a-z])(roc[_-]?auc|auroc|auc[_-]?roc|auc|rocauc)([^a-z]|$))|[a-z]AUROC([^a-z]|$)")
"""Names under which such an area is logged, also as a collection of metrics names it: ``BinaryAUROC``."""
DECISIONS = "decisions"
"""The mistake: what is ranked is 0 or 1."""
AT_HALF = "decisions at a half"
"""The same, of logits that are cut as if they were probabilities."""


def ranking(seen: Answers) -> tuple[dict[str, float], dict[str, float]]:
    """Right values and mistaken ones, by what they are; both empty where there are not two classes, or only one came.

    >>> scores, labels = torch.tensor([0.1, 2.0, 3.0, -1.0]), torch.tensor([0.0, 0.0, 1.0, 0.0])
    >>> ranking(Answers("binary_cross_entropy_with_logits", scores, labels))
    ({'area': 1.0}, {'decisions': 0.666..., 'decisions at a half': 0.833...})
    """
    found = _two_classes(seen)
    if found is None:
        return {}, {}
    scores, positive, middle = found
    if not bool(positive.any()) or bool(positive.all()):
        return {}, {}
    wrong = {DECISIONS: _area((scores > middle).to(scores.dtype), positive)}
    if not middle:
        wrong[AT_HALF] = _area((scores > 0.5).to(scores.dtype), positive)
    return {"area": _area(scores, positive)}, wrong


def _two_classes(seen: Answers) -> tuple[Tensor, Tensor, float] | None:
    scores, target = seen.scores.detach(), seen.target
    if seen.function in ("cross_entropy", "nll_loss"):
        if scores.ndim != 2 or scores.shape[1] != 2 or target.ndim != 1 or bool((target == seen.ignored).any()):
            return None
        return scores[:, 1] - scores[:, 0], target == 1, 0.0
    if scores.shape != target.shape or not scores.ndim or not scores.numel() or scores.numel() != len(scores):
        return None
    positive = target.flatten() == 1
    if not bool((positive | (target.flatten() == 0)).all()):
        return None
    return scores.flatten(), positive, 0.0 if seen.function.endswith("with_logits") else 0.5


def _area(scores: Tensor, positive: Tensor) -> float:
    """The share of pairs of both classes that are in order, ties by half."""
    values, places = torch.unique(scores.to(torch.float64), return_inverse=True)
    ones = torch.bincount(places[positive], minlength=len(values)).to(torch.float64)
    zeros = torch.bincount(places[~positive], minlength=len(values)).to(torch.float64)
    below = zeros.cumsum(0) - zeros
    return float((ones * (below + 0.5 * zeros)).sum() / (ones.sum() * zeros.sum()))
