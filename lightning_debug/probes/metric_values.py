"""The share of right answers that scores and labels give, and what common mistakes make of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from lightning_debug.probes.trace import Call, Trace

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
        asked: Mistakes that were seen as they were made (:class:`Comparisons`).
    """

    function: str
    scores: Tensor
    target: Tensor
    ignored: int = -100
    line: str = ""
    asked: frozenset[str] = frozenset()


NEGATIVE, POSITIVE, INVERTED = "argmax over one output", "threshold 0 on probabilities", "inverted"
"""Mistakes that give one answer to all, and one that gives the other answer: a threshold may give the same."""
HALF, ELSEWHERE = "threshold 0.5 on logits", "compared with another number"
_WIDE = 0.1
_COMPARISONS = "gt ge lt le greater greater_equal less less_equal __gt__ __ge__ __lt__ __le__".split()
_ABOVE = ("gt", "greater", "__gt__")


def _in_metric() -> bool:
    """Whether torchmetrics makes the call, which compares with 0 and 1 to tell logits from probabilities."""
    frame = sys._getframe(1)  # noqa: SLF001 -- the documented way to the stack
    while frame.f_back is not None and _package(frame) in ("torch", "lightning_debug"):
        frame = frame.f_back
    return _package(frame) == "torchmetrics"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).split(".")[0]


class Comparisons:
    """What a step asked of its outputs, in calls of torch: handlers of a :class:`~.trace.Trace`.

    Attributes:
        asked: Mistakes that were seen as they were made.
    """

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.handlers = dict.fromkeys(("argmax", "max", "topk"), self._best)
        self.handlers |= dict.fromkeys(_COMPARISONS, self._above)

    def _best(self, call: Call) -> None:
        shape = call.op.shapes[0] if call.op.shapes else ()
        if len(shape) > 1 and 1 in shape[1:] and not _in_metric():
            self.asked.add(NEGATIVE)

    def _above(self, call: Call) -> None:
        other = call.argument(1, "other")
        over = Trace.origin(call.op.inputs[0]) if call.op.inputs else None
        name = over.name if over is not None else ""
        if type(other) not in (int, float) or _in_metric():
            return
        if other == 0 and call.op.name in _ABOVE and name in ("sigmoid", "softmax"):
            self.asked.add(POSITIVE)
        self.asked.add(HALF if other == 0.5 and name not in ("sigmoid", "softmax", "exp") else ELSEWHERE)


def right_answers(seen: Answers) -> dict[str, float]:
    """Accuracy and the values that mean the same: per cent, whole rows.

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
    }


def mistaken_answers(seen: Answers) -> Mapping[str, float]:
    """What is logged as accuracy by mistake, by the mistake.

    One answer to all is also what a model gives that is not sure of any, at another threshold: that is a mistake
    where it was seen as it was made, or where the model is sure of both answers.
    """
    if seen.function in ("cross_entropy", "nll_loss"):
        return _mistaken_classes(seen)
    return _mistaken_binary(seen)


def same(one: float, two: float) -> bool:
    """Whether two values are the same but for rounding."""
    return math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _mistaken_classes(seen: Answers) -> dict[str, float]:
    scores, target = seen.scores, seen.target
    found: dict[str, float] = {}
    kept = _classes(seen)
    if kept is None:
        return found
    share = _mean(kept[0].argmax(1) == kept[1])
    if bool((target == seen.ignored).any()):
        return {"ignored counted": _mean(scores.argmax(1) == target)}
    if scores.shape[1] == 2:
        found[INVERTED] = 1 - share
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
        if HALF in seen.asked or ELSEWHERE not in seen.asked:  # 0.6 of a probability is nearly 0.5 of its logit
            found[HALF] = _mean((scores > 0.5) == target)
        found["rounded logits"] = _mean(scores.round() == target.to(scores.dtype))
    spread = scores.sigmoid() if middle == 0 else scores
    sure = bool((spread.min() < _WIDE) & (spread.max() > 1 - _WIDE))
    found[INVERTED] = _mean((scores > middle) != target)
    if sure or POSITIVE in seen.asked:
        found[POSITIVE] = _mean(target)
    rows = scores.flatten()
    if scores.ndim <= 1 or scores.shape[1:].numel() == 1:
        labels = target.flatten()
        if sure or NEGATIVE in seen.asked:
            found[NEGATIVE] = _mean(~labels)
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
