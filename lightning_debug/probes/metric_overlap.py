"""F1, Dice, IoU, precision and recall of two classes, at the threshold of the loss and at one for probabilities."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_debug.probes.metric_values import HALF, Answers

OVERLAP = re.compile(
    r"(?i:(?:^|[^a-z])(?:(f1|dice|dsc)|(iou|jaccard)|(precision)|(recall|sensitivity))(?:[_-]?score|[_-]?index)?(?:[^a-z0-9]|$))"
    r"|[a-z](?:(F1|Dice)|(JaccardIndex)|(Precision)|(Recall))(?:Score|[^a-z]|$)"
)
"""Names under which they are logged, also as a collection of metrics names them: ``BinaryF1Score``."""
OBJECTS = ("F1", "Dice", "Jaccard", "Precision", "Recall")
AT_HALF = "overlap at a half"
"""The mistake: logits are cut as if they were probabilities."""
FORM = " | "
"""What stands between a mistake and how the value is averaged."""


def overlap(seen: Answers, name: str) -> tuple[dict[str, float], dict[str, float]]:
    """Right values of what a name stands for, and mistaken ones, by how they are averaged and smoothed.

    Args:
        seen: Scores and labels of a batch, any shape.
        name: The logged name, which :data:`OVERLAP` finds.

    Returns:
        Both; empty where the labels are not those of two classes. Mistaken ones only of logits.

    >>> scores, labels = torch.tensor([0.2, 2.0, 3.0, -1.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    >>> right, wrong = overlap(Answers("binary_cross_entropy_with_logits", scores, labels), "val_iou")
    >>> round(right["all"], 3), round(wrong["overlap at a half | all"], 3)
    (0.667, 0.333)
    """
    kind = OVERLAP.search(name)
    scores, target = seen.scores.detach(), seen.target
    if kind is None or not seen.function.startswith("binary") or scores.shape != target.shape or not target.numel():
        return {}, {}
    positive = target == 1
    if not bool((positive | (target == 0)).all()):
        return {}, {}
    which = next(index for index, group in enumerate(kind.groups()) if group) % 4
    if not seen.function.endswith("with_logits"):
        return dict(_forms(scores > 0.5, positive, which)), {}
    right, wrong = dict(_forms(scores > 0, positive, which)), {}
    if not bool(((scores >= 0) & (scores <= 1)).all()):  # else a metric takes them for probabilities
        wrong = {f"{AT_HALF}{FORM}{form}": value for form, value in _forms(scores > 0.5, positive, which)}
    return right, wrong


def was_seen(seen: Answers) -> bool:
    """Whether something was compared with 0.5 in the step."""
    return HALF in seen.asked


def _forms(chosen: Tensor, positive: Tensor, which: int) -> Iterator[tuple[str, float]]:
    """Values over all places, by sample, by sample and channel, and by label; empty parts count for 0 or for 1."""
    yield from _averaged("all", chosen.reshape(1, -1), positive.reshape(1, -1), which)
    if chosen.ndim > 1 and chosen[0].numel() > 1:
        yield from _averaged("samples", chosen.flatten(1), positive.flatten(1), which)
    if chosen.ndim > 2 and chosen.shape[1] > 1:
        yield from _averaged("channels", chosen.flatten(2).flatten(0, 1), positive.flatten(2).flatten(0, 1), which)
    if chosen.ndim == 2 and chosen.shape[1] > 1:
        yield from _averaged("labels", chosen.T, positive.T, which)


def _averaged(name: str, chosen: Tensor, positive: Tensor, which: int) -> Iterator[tuple[str, float]]:
    hit, taken, there = ((part).sum(1).to(torch.float64) for part in (chosen & positive, chosen, positive))
    above, below = ((2 * hit, taken + there), (hit, taken + there - hit), (hit, taken), (hit, there))[which]
    value = above / below.clamp(min=1)
    yield name, float(value.mean())
    if bool((below == 0).any()):
        yield f"{name}, empty is 1", float(torch.where(below == 0, 1.0, value).mean())
    yield f"{name}, smooth", float(((above + 1) / (below + 1)).mean())
