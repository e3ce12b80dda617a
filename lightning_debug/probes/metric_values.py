"""The share of right answers that scores and labels give, and what common mistakes make of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 2e-5
"""Relative difference up to which two values are the same number."""


@dataclass(frozen=True)
class Answers:
    """Scores and labels as a loss function received them.

    Args:
        function: ``"cross_entropy"``, ``"nll_loss"``, ``"binary_cross_entropy_with_logits"`` or
            ``"binary_cross_entropy"``.
        scores: Its first operand, any shape.
        target: Its second operand.
        ignored: The label that counts for nothing, for the first two.
        line: Where it is called.
    """

    function: str
    scores: Tensor
    target: Tensor
    ignored: int = -100
    line: str = ""


def right_answers(seen: Answers) -> dict[str, float]:
    """Accuracy and the values that mean the same: errors, per cent, whole rows.

    Returns:
        Values by what they are; ``"accuracy"`` first. Empty where accuracy means nothing: soft or real targets.

    >>> scores = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    >>> round(right_answers(Answers("cross_entropy", scores, torch.tensor([0, 1, 1])))["accuracy"], 3)
    0.667
    """
    if seen.function in ("cross_entropy", "nll_loss"):
        kept = _classes(seen)
        if kept is None:
            return {}
        share = _mean(kept[0].argmax(1) == kept[1])
        rows = share
    else:
        hard = _binary(seen)
        if hard is None:
            return {}
        scores, target = hard
        right = (scores > _middle(seen)) == target
        share, rows = _mean(right), _mean(right.flatten(1).all(1)) if right.ndim > 1 else _mean(right)
    return {
        "accuracy": share,
        "rows": rows,
        "per cent": 100 * share,
        "rows per cent": 100 * rows,
        "errors": 1 - share,
        "errors per cent": 100 * (1 - share),
    }


def mistaken_answers(seen: Answers) -> Mapping[str, float]:
    """What is logged as accuracy by mistake, by the mistake."""
    if seen.function in ("cross_entropy", "nll_loss"):
        return _mistaken_classes(seen)
    return _mistaken_binary(seen)


def same(one: float, two: float) -> bool:
    """Whether two values are the same but for rounding."""
    return math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _mistaken_classes(seen: Answers) -> dict[str, float]:
    scores, target = seen.scores, seen.target
    found: dict[str, float] = {}
    if _classes(seen) is None or bool((target == seen.ignored).any()):
        return found
    for dim in range(scores.ndim):
        best = scores.argmax(dim)
        if dim != 1 and best.shape == target.shape:
            found[f"argmax over dim={dim}"] = _mean(best == target)
    if scores.ndim == 2:
        best = scores.argmax(1)
        found["broadcast"] = _mean(best[:, None] == target[None, :])
        found["count"] = float((best == target).sum())
    return found


def _mistaken_binary(seen: Answers) -> dict[str, float]:
    hard = _binary(seen)
    if hard is None:
        return {}
    scores, target = hard
    middle = _middle(seen)
    found: dict[str, float] = {}
    if middle == 0 and not bool(((scores >= 0) & (scores <= 1)).all()):  # else a metric takes them for probabilities
        found["threshold 0.5 on logits"] = _mean((scores > 0.5) == target)
        found["rounded logits"] = _mean(scores.round() == target.to(scores.dtype))
    found["threshold 0 on probabilities"] = _mean(target)
    rows = scores.flatten()
    if scores.ndim <= 1 or scores.shape[1:].numel() == 1:
        labels = target.flatten()
        found["argmax over one output"] = _mean(~labels)
        found["broadcast"] = _mean((rows > middle)[:, None] == labels[None, :])
        found["count"] = float(((rows > middle) == labels).sum())
    return found


def _classes(seen: Answers) -> tuple[Tensor, Tensor] | None:
    """Scores with classes in dimension 1 and the labels that count, or ``None``."""
    scores, target = seen.scores, seen.target
    if scores.ndim < 2 or target.is_floating_point() or target.ndim != scores.ndim - 1:
        return None
    keep = target != seen.ignored
    if not bool(keep.any()):
        return None
    return scores.movedim(1, -1)[keep].flatten(0, -2), target[keep].flatten()


def _binary(seen: Answers) -> tuple[Tensor, Tensor] | None:
    target = seen.target
    if seen.scores.shape != target.shape or not target.numel():
        return None
    ones = target == 1
    if not bool((ones | (target == 0)).all()):  # soft targets
        return None
    return seen.scores, ones


def _middle(seen: Answers) -> float:
    return 0.0 if seen.function.endswith("with_logits") else 0.5


def _mean(right: Tensor) -> float:
    return float(right.to(torch.float64).mean())
