"""Evidence about how sure a classifier is of its answers."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class AnswerConfidence(Evidence):
    """How sure a classifier is of right and wrong answers, on the first validation batch.

    Args:
        epoch: Epoch at whose end.
        samples: Answers looked at.
        right: Share of right answers.
        confidence_right: Mean probability given to the answer, where it is right.
        confidence_wrong: Likewise where it is wrong.
        loss_right: Part of the mean loss that comes from right answers.
        loss_wrong: Part that comes from wrong answers.
        temperature: By what the logits would have to be divided for the lowest loss; above 1: too sure.
        less_sure_right: Share of all answers that were and are right, with less confidence than when first measured;
            ``None`` the first time, and where the labels are others.
        surer_wrong: Share that are wrong with more confidence than any answer to the same sample then, right or wrong.
    """

    epoch: int
    samples: int
    right: float
    confidence_right: float
    confidence_wrong: float
    loss_right: float
    loss_wrong: float
    temperature: float
    less_sure_right: float | None = None
    surer_wrong: float | None = None
