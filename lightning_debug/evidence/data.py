"""Evidence about what the loaders deliver: values, labels, counts."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_debug.evidence._base import Evidence


@dataclass(frozen=True, kw_only=True)
class FieldValues(Evidence):
    """The values of one field of the batches, as they left the loader, over the batches looked at closely.

    Args:
        stage: ``"train"`` or ``"validate"``.
        loader: Index of the dataloader.
        field: Such as ``"batch['image']"``.
        role: ``"input"``, ``"tokens"``, ``"label"``.
        holds: ``"image"``, ``"series"``, ``"values"``, ``"counts"``, ``"binary"``, ``"one-hot"``, ``"ids"``.
        shape: Shape of one sample.
        samples: Samples measured.
        batches: Batches they came in.
        lowest: Least value.
        highest: Greatest value.
        mean: Mean of all values.
        deviation: Standard deviation of all values.
        zeros: Share of values that are exactly 0.
        negatives: Share of values below 0.
        feature: What a feature is: ``"column"``, ``"channel"``, or ``"value"`` where all are one.
        means: Mean of each feature (at most 256, evenly chosen).
        deviations: Standard deviation of each feature.
        dead: Samples whose values are all 0.
        dead_expected: How many to expect if values were 0 independently of each other, at their features' shares.
        flat: Samples whose values are all the same, and not 0.
        blank: Pictures that are one and the same, of one value a channel, not all 0.
        alike: Samples equal to the first one seen.
        batches_alike: Batches of at least 4 samples that are all equal.
        row_mean_highest: Greatest magnitude of a sample's own mean.
        row_deviation_lowest: Least standard deviation of a sample's own values.
        row_deviation_highest: Greatest, likewise.
        steps: Of series with channels last: greatest magnitude of one step's mean over its channels, least and greatest
            deviation over them; of pictures of 3 or 4 channels the same of some pixels; ``None`` for other fields.
        row_length_lowest: Least length of a sample's values, as a vector.
        row_length_highest: Greatest, likewise.
        profile: Share of the variance that the features' means explain.
        profile_roughness: Mean squared difference of neighbouring features' means over twice their variance: about 1
            where neighbours have nothing in common, near 0 along time, wavelengths or pixels.
        floor: Share of values that are the least one.
    """

    stage: str
    loader: int = 0
    field: str = ""
    role: str = ""
    holds: str = ""
    shape: tuple[int, ...] = ()
    samples: int = 0
    batches: int = 0
    lowest: float = 0.0
    highest: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    zeros: float = 0.0
    negatives: float = 0.0
    feature: str = "value"
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    dead: int = 0
    dead_expected: float = 0.0
    flat: int = 0
    blank: int = 0
    alike: int = 0
    batches_alike: int = 0
    row_mean_highest: float = 0.0
    row_deviation_lowest: float = 0.0
    row_deviation_highest: float = 0.0
    steps: tuple[float, ...] | None = None
    row_length_lowest: float = 0.0
    row_length_highest: float = 0.0
    profile: float = 0.0
    profile_roughness: float = 1.0
    floor: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LabelCounts(Evidence):
    """How often each class occurs among the labels of a whole epoch.

    Args:
        stage: ``"train"`` or ``"validate"``.
        loader: Index of the dataloader.
        field: The labels' field.
        classes: The classes seen, in order (at most 1000).
        counts: How often each.
        complete: Whether a whole epoch was counted.
        more: Whether there are more classes than were counted.
    """

    stage: str
    loader: int = 0
    field: str = ""
    classes: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    complete: bool = False
    more: bool = False


@dataclass(frozen=True, kw_only=True)
class DeliveredSamples(Evidence):
    """What a whole epoch delivered, against what its sampler asked for.

    Args:
        stage: ``"train"`` or ``"validate"``.
        loader: Index of the dataloader.
        batches: Batches delivered.
        delivered: Samples in them: rows of the fields.
        asked: Samples that the batch sampler gave to the collate function for those batches; ``None`` where that is
            not known.
        short: Batches in which nothing is as long as the number of samples asked for.
        rows: Rows of the first such batch.
        rows_asked: Samples asked for in that batch.
        field: The field that the samples were counted by.
        labelled: Whether each short batch has one label for each of its rows, so that a row is a sample, and their
            numbers are not those of samples of which every few are made one.
        label: The label field, where it has another number of rows than the inputs; else ``""``.
        label_rows: Rows of the labels in the first such batch.
        input_rows: Rows of the inputs in that batch.
        mismatched: How many batches have labels for fewer samples than inputs.
        dataset: Samples in the dataset.
        collate: Name of the collate function.
        left_out: Samples of the epoch that do not fill a batch, and that ``drop_last`` leaves out.
        keeps: Whether the dataset keeps anything of as many items as it has samples, or may do so.
        drops_none: Whether the collate function asks for samples that are ``None``.
        values: Values of the field in the first short batch.
        joined: Whether the values of all samples asked for are in its rows, of which each holds several samples.
    """

    stage: str
    loader: int = 0
    batches: int = 0
    delivered: int = 0
    asked: int | None = None
    short: int = 0
    rows: int = 0
    rows_asked: int = 0
    field: str = ""
    labelled: bool = False
    label: str = ""
    label_rows: int = 0
    input_rows: int = 0
    mismatched: int = 0
    dataset: int | None = None
    collate: str = ""
    left_out: int = 0
    keeps: bool = True
    drops_none: bool = False
    values: int = 0
    joined: bool = False


@dataclass(frozen=True, kw_only=True)
class UnreadableSample(Evidence):
    """A dataset raised when it was asked for a sample.

    Args:
        stage: ``"train"`` or ``"validate"``.
        loader: Index of the dataloader.
        index: What the dataset was asked for; ``None`` where that is not known.
        delivered: Samples of this stage that were delivered before.
        dataset: Class of the dataset.
        length: Samples in it; ``None`` where it has no length.
        error: Class of the exception.
        message: Its text, the last line.
        line: ``file.py:31`` where it was raised; ``""`` where that is not known.
    """

    stage: str
    loader: int = 0
    index: int | None = None
    delivered: int = 0
    dataset: str = ""
    length: int | None = None
    error: str = ""
    message: str = ""
    line: str = ""


@dataclass(frozen=True, kw_only=True)
class ScannedData(Evidence):
    """A loader's data were read once before training, by a loader of our own.

    Args:
        stage: ``"train"`` or ``"validate"``.
        loader: Index of the dataloader.
        samples: Samples in the dataset; ``None`` where it has no length.
        read: Samples read.
        outcome: ``"complete"``, ``"interrupted"``, or why it was not read, or not to its end.
    """

    stage: str
    loader: int = 0
    samples: int | None = None
    read: int = 0
    outcome: str = "complete"
