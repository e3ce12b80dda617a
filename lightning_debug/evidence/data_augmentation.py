"""Evidence about augmentation: what a dataset draws anew, and what its samples then look like."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class AugmentationDraws(Evidence):
    """What a training dataset draws when it is asked for the same samples again, each time as another worker would.

    Args:
        samples: Samples drawn.
        redrawn: How many of them were another when drawn again in one process.
        varies: Whether drawing again in one process gives another result.
        copies_agree: Whether two copies of the dataset, with other global seeds, as in two workers, draw alike.
        reseeds: A global generator that a draw leaves in one state: ``"numpy"``, ``"torch"``, ``"random"``, or empty.
        workers: Worker processes of the loader.
        persistent: Whether the workers live on from epoch to epoch.
        initialised: Whether the user gave a ``worker_init_fn``.
        held: Generators that it leaves in one state, and that are all the draws use: the same in each epoch, and
        held_in_all: whether it is the same in all workers as well.
        bags: Whether an item is a batch, whose rows may be other ones each time: no other versions of a sample.
        dataset: Class of the dataset.
        owner: Path of the generator that the dataset carries along.
        views: Paths of the views of a sample that are one and the same in each draw, though draws differ.
    """

    samples: int = 0
    redrawn: int = 0
    varies: bool = False
    copies_agree: bool = False
    reseeds: str = ""
    workers: int = 0
    persistent: bool = False
    initialised: bool = False
    held: tuple[str, ...] = ()
    held_in_all: bool = False
    bags: bool = False
    dataset: str = ""
    owner: str = ""
    views: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AugmentedNeighbours(Evidence):
    """Which raw samples augmented training samples are nearest to.

    Args:
        samples: Augmented samples that lie as near to raw samples as raw samples do to each other.
        wrong: Share of them whose nearest raw sample has another label.
        raw_samples: Raw samples compared with.
        raw_wrong: The same share among those.
        pair: The two labels most often confused, and
        pair_share: their share among the wrong ones.
        pair_samples: Samples of one of those two labels that are nearest to a raw sample of one of them.
        pair_wrong: Share of those whose labels differ.
        raw_pair_samples: How many raw samples are so, and
        raw_pair_wrong: the same share of them.
        transform: Class of the dataset's transform, where it has one.
        turn: What becomes of them on their way from the loader to the net, as a participle, where that is compared
            and not what the dataset makes of them.
    """

    samples: int = 0
    wrong: float = 0.0
    raw_samples: int = 0
    raw_wrong: float = 0.0
    pair: tuple[str, str] = ("", "")
    pair_share: float = 0.0
    pair_samples: int = 0
    pair_wrong: float = 0.0
    raw_pair_samples: int = 0
    raw_pair_wrong: float = 0.0
    transform: str = ""
    turn: str = ""


@dataclass(frozen=True, kw_only=True)
class AugmentedMaps(Evidence):
    """Whether the maps that belong to pictures are flipped and turned with them, where draws of a sample differ so.

    Args:
        turned: Pairs of draws of one sample whose pictures are each other's, turned, where that changes the map.
        kept: Such pairs in which the map is as it was.
        astray: Such pairs in which the map is turned in another way than the picture.
        samples: Samples that these are of.
        image: Path of the pictures.
        target: Path of the maps.
        turn: The turn most often found, as a participle.
        dataset: Class of the dataset.
    """

    turned: int = 0
    kept: int = 0
    astray: int = 0
    samples: int = 0
    image: str = ""
    target: str = ""
    turn: str = ""
    dataset: str = ""


@dataclass(frozen=True, kw_only=True)
class MixedSamples(Evidence):
    """Training samples that meet the net mixed with another of their batch, where losses compare their own labels.

    Args:
        samples: Training samples looked at.
        mixed: Those that are mixed, the other one being a large part.
        share: Mean part of the other one in those.
    """

    samples: int = 0
    mixed: int = 0
    share: float = 0.0
