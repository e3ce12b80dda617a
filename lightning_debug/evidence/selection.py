"""Evidence about the epoch that was kept."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class EpochSelection(Evidence):
    """The choice of the epoch to keep, when training was over.

    Args:
        epoch: The epoch, from 0.
        validations: How many validations there were to choose from.
        metric: Name of the validation metric; empty without one.
        mode: Whether a larger metric is better (``"max"``) or a smaller.
        metric_value: The metric there.
        best_metric: The best single value of the metric.
        loss: Name of the validation loss; empty without one.
        loss_value: The loss there.
        lowest_loss: The lowest single value of the loss.
        tolerance: How far above its lowest value the smoothed loss may lie; NaN where it was not used.
        tempered: Whether the loss of scores at their best temperature was used in place of the loss.
        stopped: Whether training was stopped by this choice.
        restored: Whether the module has the weights of that epoch now.
        path: A checkpoint of that epoch, where there is one.
        reason: Why the weights were not restored, where that was asked for; empty if they were.
    """

    epoch: int
    validations: int
    metric: str = ""
    mode: str = "max"
    metric_value: float | None = None
    best_metric: float | None = None
    loss: str = ""
    loss_value: float | None = None
    lowest_loss: float | None = None
    tolerance: float = 0.0
    tempered: bool = False
    stopped: bool = False
    restored: bool = False
    path: str = ""
    reason: str = ""
