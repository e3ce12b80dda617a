"""Evidence about ranks: the processes of one training, compared with each other."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class RankBatches(Evidence):
    """The first training batches of an epoch, compared over ranks by fingerprints of their samples.

    Args:
        ranks: Ranks that were compared.
        batches: Batches of each rank.
        samples: Samples of each rank; the fewest where they differ.
        distinct: Fewest different samples that a rank has among them.
        twins: Ranks that have a twin: a rank of lower number with the most samples at the same places.
        rank: The twin of higher number with the largest share.
        other: The rank it is a twin of.
        share: Share of that rank's samples which the other has at the same place of the same batch.
        values: Numbers a sample is made of.
        floating: Whether some of them are no whole numbers by type.
        sampler: Class of the loader's sampler.
        iterable: Whether the data set is an iterable one, which has no sampler.
    """

    ranks: int = 1
    batches: int = 0
    samples: int = 0
    distinct: int = 0
    twins: int = 0
    rank: int = 0
    other: int = 0
    share: float = 0.0
    values: int = 0
    floating: bool = False
    sampler: str = ""
    iterable: bool = False


@dataclass(frozen=True, kw_only=True)
class UnequalParameter:
    """A parameter that ranks hold in different versions.

    Args:
        name: Its path.
        rank: The rank that is furthest from the first.
        difference: Largest difference of a few values at the same places, over the parameter's mean magnitude.
    """

    name: str
    rank: int = 0
    difference: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RankWeights(Evidence):
    """Trainable parameters of a replicated model, compared over ranks bit by bit.

    Args:
        ranks: Ranks that were compared.
        parameters: Parameters that were compared.
        unequal: Those whose bits differ, the largest difference first.
        count: How many differ; ``unequal`` lists the first few.
    """

    ranks: int = 1
    parameters: int = 0
    unequal: tuple[UnequalParameter, ...] = ()
    count: int = 0


@dataclass(frozen=True, kw_only=True)
class RankValue:
    """One value that a validation logged, over ranks.

    Args:
        name: Its name.
        low: Smallest of the ranks' values; NaN where a rank has NaN and another has not.
        high: Largest of them.
        low_rank: The rank with the smallest.
        high_rank: The rank with the largest.
        users: What decides by it: ``"ModelCheckpoint"``, ``"EarlyStopping"``, ``"ReduceLROnPlateau"``.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    low_rank: int = 0
    high_rank: int = 0
    users: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RankValues(Evidence):
    """What one validation logged, compared over ranks.

    Args:
        ranks: Ranks that were compared.
        values: The values.
    """

    ranks: int = 1
    values: tuple[RankValue, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RankNorm:
    """A batch-norm in train mode that takes its statistics from its own rank.

    Args:
        path: Its path.
        class_name: Its class.
        samples: Length of the leading dimension of what it was given.
        values: Values a channel, samples times positions.
    """

    path: str
    class_name: str = ""
    samples: int = 0
    values: int = 0


@dataclass(frozen=True, kw_only=True)
class RankNorms(Evidence):
    """What unsynchronised batch-norms averaged over in one training step of one rank.

    Args:
        ranks: Processes that train.
        norms: The batch-norms, in the order in which they ran.
    """

    ranks: int = 1
    norms: tuple[RankNorm, ...] = ()
