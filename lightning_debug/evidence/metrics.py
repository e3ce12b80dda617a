"""Evidence about metrics: what a logged value is made of, and what it would be if it were computed again."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class CarriedOver:
    """An epoch's value is made of what came before that epoch, too.

    Args:
        source: Path of the metric object, or the attribute, in the LightningModule.
        kind: ``"metric"``, ``"list"`` or ``"number"``.
        key: The name that the value is logged under; empty where it is not known.
        logged: Whether a metric object itself is logged; otherwise its ``compute()`` was called.
        earlier_train: Updates in a metric's state that came from training, before this epoch's first batch.
        earlier_validate: Updates in it that came from an earlier validation.
        earlier: Items that earlier epochs left in a list, or a number's value when the epoch began.
        held: Updates, items or the number's value when the epoch ended.
        hook: The hook that logs the value of a list or a number.
        also: Other attributes that hold earlier epochs and that the hook reads.
        value: What that logs.
        alone: What the same hook logs, run in isolation, from this epoch's part alone.
        collection: Path of the collection of metrics that it is part of; empty where it is in none.
    """

    source: str
    kind: str
    key: str = ""
    logged: bool = False
    earlier_train: int = 0
    earlier_validate: int = 0
    earlier: float = 0.0
    held: float = 0.0
    hook: str = ""
    also: tuple[str, ...] = ()
    value: float = 0.0
    alone: float = 0.0
    collection: str = ""

    @property
    def owner(self) -> str:
        """What is made, reset and cloned as one: the collection, if there is one."""
        return f"self.{self.collection or self.source}"


@dataclass(frozen=True, kw_only=True)
class MetricStates(Evidence):
    """What metrics and hand-kept totals held when an epoch's values were taken.

    Args:
        stage: ``"train"`` or ``"validate"``.
        metrics: Number of metric objects in the model.
        carried: Those that held something from before the epoch.
    """

    stage: str
    metrics: int
    carried: tuple[CarriedOver, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnevenAverage:
    """A logged value is the plain mean of values of batches that differ in size, or their sum.

    Args:
        key: The name of the logged value.
        value: The logged value, which is the plain mean, or the sum.
        weighted: The mean with each batch weighted by its rows.
        source: The attribute that the values were collected or added up in; empty where ``self.log`` averaged them.
        summed: Whether it is their sum, which may be meant.
        parts: Of a sum the values of the first (up to 16) batches.
        error: Of a mean the standard error that ``weighted`` has, by the spread of its batches.
    """

    key: str
    value: float
    weighted: float
    source: str = ""
    summed: bool = False
    parts: tuple[float, ...] = ()
    error: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BatchAverages(Evidence):
    """How a validation's values were averaged over its batches.

    Args:
        batches: Number of batches.
        largest: Rows of the largest.
        smallest: Rows of the smallest.
        uneven: Values that are the plain mean although batches differ in size, or sums over batches.
    """

    batches: int
    largest: int
    smallest: int
    uneven: tuple[UnevenAverage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AccuracyComparison(Evidence):
    """Accuracy as logged for a few validation batches, beside what the same scores and labels give.

    Args:
        key: The name of the logged value.
        logged: The value logged for each batch, run again in isolation.
        computed: The share of right answers in each batch.
        mistake: What the logged values are instead; empty where they are right or not explained.
        function: The loss function whose scores and labels were used.
        line: Where that is called.
        samples: Rows of the batches.
    """

    key: str
    logged: tuple[float, ...]
    computed: tuple[float, ...]
    mistake: str = ""
    function: str = ""
    line: str = ""
    samples: tuple[int, ...] = ()
