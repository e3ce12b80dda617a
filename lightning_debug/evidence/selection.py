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


@dataclass(frozen=True, kw_only=True)
class MonitoredValue(Evidence):
    """A logged value by which a checkpoint is chosen, training is stopped or the learning rate is lowered.

    Args:
        name: The value's name.
        mode: Which of its values the user takes for better: ``"min"`` or ``"max"``.
        user: Class of the callback or schedule that decides by it.
        better: Which of its values are better; empty where that is not known.
        known_by: How that is known.
        count: How many finite values there were.
        lowest: The smallest of them.
        highest: The largest.
        lowest_at: The first epoch with the smallest value.
        highest_at: The first epoch with the largest.
    """

    name: str
    mode: str = ""
    user: str = ""
    better: str = ""
    known_by: str = ""
    count: int = 0
    lowest: float = 0.0
    highest: float = 0.0
    lowest_at: int = 0
    highest_at: int = 0

    def is_reversed(self, mode: str) -> bool:
        """Whether that mode is the wrong one, and the value has become better since it was at its worst.

        >>> seen = MonitoredValue(name="val_acc", better="max", count=3, lowest=0.2, highest=0.9, highest_at=2)
        >>> seen.is_reversed("min"), seen.is_reversed("max")
        (True, False)
        """
        if self.better not in ("min", "max") or self.better == mode or self.count < 3:
            return False
        gained = self.highest_at - self.lowest_at if self.better == "max" else self.lowest_at - self.highest_at
        return gained > 0
