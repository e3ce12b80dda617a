"""Evidence about how samples relate: to labels, to each other, to their order, across loaders and epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class SampleOrder(Evidence):
    """In which order the labels of the first training epoch came.

    Args:
        field: Name of the labels.
        samples: Samples seen.
        batches: Batches seen.
        batch_size: Samples of the largest.
        classes: Distinct labels; 0 for amounts.
        numbers: Numbers a label; of several, those of the field are told that come in blocks most.
        runs: Stretches of equal labels.
        expected_runs: What a random order gives on average.
        deviation: How many standard deviations ``runs`` lies from that; negative for too few.
        within: Probability that two samples of one batch have the same label.
        overall: Of any two samples.
        single: Share of the batches of at least four samples that hold one label only.
        rank_correlation: Of amounts with their place in the order; ``None`` for classes.
        series: Whether samples are windows of a series, or sequences of tokens.
        shuffled: Whether the loader shuffles; ``None`` where that is not known.
        sampler: Class of the loader's sampler.
        streams: Whether samples come without an index.
        dataset: Class of the loader's dataset.
        overfitting: Whether Lightning was asked to overfit a few batches.
    """

    field: str = ""
    samples: int = 0
    batches: int = 0
    batch_size: int = 0
    classes: int = 0
    numbers: int = 1
    runs: int = 0
    expected_runs: float = 0.0
    deviation: float = 0.0
    within: float = 0.0
    overall: float = 0.0
    single: float = 0.0
    rank_correlation: float | None = None
    series: bool = False
    shuffled: bool | None = None
    sampler: str = ""
    streams: bool = False
    dataset: str = ""
    overfitting: bool = False


@dataclass(frozen=True, kw_only=True)
class EpochOrders(Evidence):
    """Whether later training epochs brought the samples in the order of an earlier one.

    Args:
        epochs: Whole epochs compared.
        repeated: How many of them had the order of an earlier one.
        repeated_samples: How many of them had the very samples of an earlier one, whatever their order.
        by: What the order was told by: ``"inputs"`` or ``"labels"``.
        samples: Samples an epoch.
        shuffled: Whether the loader shuffles; ``None`` where that is not known.
        sampler: Class of the loader's sampler.
        overfitting: Whether Lightning was asked to overfit a few batches.
        dataset: Class of the loader's dataset.
    """

    epochs: int = 0
    repeated: int = 0
    repeated_samples: int = 0
    by: str = "inputs"
    samples: int = 0
    shuffled: bool | None = None
    sampler: str = ""
    overfitting: bool = False
    dataset: str = ""


@dataclass(frozen=True, kw_only=True)
class SampleCopies(Evidence):
    """Equal samples in the training data.

    Args:
        samples: Samples compared.
        copies: Samples beyond the first of each kind.
        largest: Size of the largest group of equal samples.
        once: Samples that have no equal.
        twice: Groups of two equal samples.
        places: Places of the first few pairs in the dataset, or in the epoch.
        in_dataset: Whether the dataset itself was compared, not what the loader delivered.
        exact: Pairs of equal samples among those looked at closely.
        near: Pairs there that differ in a few discrete values only: what chance makes where it makes equal ones.
        expected: Equal pairs that chance makes of values this diverse.
        compared: Values compared of each sample.
        labelled: Whether samples have a label.
        conflicting: Samples whose equals have another label.
        fewest_conflicting: Of those, how many would need another label for all groups to agree.
        balancing: Whether the copies make rare classes as frequent as others.
        drawn_again: Whether the sampler may draw a sample more than once, where the dataset was not compared.
        withheld: Samples that the dataset holds and does not give, though each of its indices was asked for once.
        sampler: Class of the loader's sampler.
        grows: Whether the dataset is filled while training goes on: a memory of games or of transitions.
        streams: Whether samples come without an index.
        readers: Workers of which each delivered each sample once; 0 where that is not so.
        dataset: Class of the loader's dataset.
    """

    samples: int = 0
    copies: int = 0
    largest: int = 1
    once: int = 0
    twice: int = 0
    places: tuple[tuple[int, int], ...] = ()
    in_dataset: bool = False
    exact: int = 0
    near: int = 0
    expected: float = 0.0
    compared: int = 0
    labelled: bool = False
    conflicting: int = 0
    fewest_conflicting: int = 0
    balancing: bool = False
    drawn_again: bool = False
    withheld: int = 0
    grows: bool = False
    sampler: str = ""
    streams: bool = False
    readers: int = 0
    dataset: str = ""

    @property
    def each_answered_anew(self) -> bool:
        """Whether every input is there as often, thrice or more, and most labels differ: actions tried in it."""
        whole = self.largest > 2 and (self.samples - self.copies) * self.largest == self.samples
        return whole and 2 * self.conflicting > self.samples


@dataclass(frozen=True, kw_only=True)
class SharedSamples(Evidence):
    """Samples that a validation loader shares with training.

    Args:
        loader: Index of the validation loader.
        loaders: Number of validation loaders.
        samples: Validation samples compared.
        training: Training samples compared.
        shared: Validation samples that equal a training sample.
        near: Those that differ from one by next to nothing.
        overlapping: Share of them that hold a stretch of a training sample, moved in time; ``None`` for no series.
        same_indices: Validation samples that are the same rows of the same dataset as training samples.
        same_dataset: Whether both loaders read all of the same dataset.
        places: First few pairs (validation, training), as places in the datasets where ``in_dataset``.
        in_dataset: Whether datasets were compared, not what the loaders delivered.
        chance: Near pairs of discrete values among the equal ones, see :class:`SampleCopies`.
        expected: Equal pairs that chance makes.
        compared: Values compared of each sample.
        dataset: Class of the validation dataset.
        overfitting: Whether Lightning was asked to overfit a few batches.
        other_targets: Whether validation asks for something else of the samples that both have.
    """

    loader: int = 0
    loaders: int = 1
    samples: int = 0
    training: int = 0
    shared: int = 0
    near: int = 0
    overlapping: float | None = None
    same_indices: int = 0
    same_dataset: bool = False
    places: tuple[tuple[int, int], ...] = ()
    in_dataset: bool = False
    chance: bool = False
    expected: float = 0.0
    compared: int = 0
    dataset: str = ""
    overfitting: bool = False
    other_targets: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelAlignment(Evidence):
    """Whether labels have anything to do with their inputs.

    Args:
        field: Name of the labels.
        kind: ``"classes"``, ``"amounts"``, or ``"several"`` numbers a sample.
        samples: Samples tested.
        classes: Distinct labels; 0 for amounts.
        p_values: Of each test of dependence, against permuted labels, by name.
        agreement: How well labels are guessed from the nearest samples: share right, or correlation.
        by_chance: The same with permuted labels, on average.
        shift: By how many rows labels have to be moved to fit best; 0 where no shift fits better.
        shifted_agreement: As ``agreement``, with that shift.
        shifted_p: p-value of the shift, corrected for the number of shifts tried.
        order: Where rows were shifted: ``"dataset"`` or ``"epoch"``.
        pooled: Whether samples differ in length, and features that do not depend on it were compared.
    """

    field: str = ""
    kind: str = "classes"
    samples: int = 0
    classes: int = 0
    p_values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    agreement: float = 0.0
    by_chance: float = 0.0
    shift: int = 0
    shifted_agreement: float = 0.0
    shifted_p: float = 1.0
    order: str = "dataset"
    pooled: bool = False


@dataclass(frozen=True, kw_only=True)
class CollatedOrder(Evidence):
    """Whether a collate function keeps each sample's parts together.

    Args:
        samples: Samples of the batch it was asked for.
        field: Column of numbers that stands in another order than the inputs; empty where none does.
        inputs: The inputs.
        moved: Rows of the inputs beside which the number of another sample stands.
        collate: Name of the collate function.
    """

    samples: int = 0
    field: str = ""
    inputs: str = ""
    moved: int = 0
    collate: str = ""


@dataclass(frozen=True, kw_only=True)
class LabelLearning(Evidence):
    """What the net knows of labels when training ends, asked where inputs seem to tell nothing of them.

    Args:
        epochs: Epochs trained.
        steps: Batches trained on.
        samples: Samples that the net was asked about.
        held_out: Whether those are validation samples.
        p_value: That its outputs have nothing to do with the labels, against permuted labels.
        agreement: Its share of right labels, or rank correlation with the amounts; ``by_loss``, how much lower the loss
            is with these labels than with exchanged ones, as a share of it.
        by_chance: The same with permuted labels, on average.
        neighbours: What the nearest of the validation samples tell of a label, beyond chance; 0 if not asked.
        by_loss: Whether the loss was asked, as no known loss function compares outputs with labels.
    """

    epochs: int = 0
    steps: int = 0
    samples: int = 0
    held_out: bool = True
    p_value: float = 1.0
    agreement: float = 0.0
    by_chance: float = 0.0
    neighbours: float = 0.0
    by_loss: bool = False


@dataclass(frozen=True, kw_only=True)
class TargetOffset(Evidence):
    """Which token each output of a causal net is trained to predict, found by changing tokens and running the step.

    Args:
        function: The loss: ``"cross_entropy"`` …
        line: The user's line that calls it.
        field: Name of the tokens that the outputs depend on.
        offset: How far the target lies after the last token that its output can see: 1 is the next token.
        target_offset: How far the targets that reach the loss are moved against the tokens.
        seen_offset: Through which token, counted from the output's own place, the output sees.
        matched: Share of the targets that equal the token at that offset.
        positions: Targets compared.
        length: Length of a sequence.
    """

    function: str = "cross_entropy"
    line: str = ""
    field: str = ""
    offset: int = 1
    target_offset: int = 1
    seen_offset: int = 0
    matched: float = 0.0
    positions: int = 0
    length: int = 0
