"""Each sample is normalised over its features, instead of each feature over the samples.

What it sees: tables whose every row has mean 0 (within `tolerance`) and one and the same deviation, while the
    columns do not: their means explain `profile` of the variance or more, as columns of different units do; or
    `slight` of it, where the deviation of one column is `uneven` times that of the middle one. Likewise tables whose
    every row has length 1, where the largest column is `units` times as large as the smallest; and series each of whose
    steps has mean 0 and deviation 1 over its channels, which have such means; and pictures of three or four channels
    each of whose pixels has.
Why it hurts: a row's mean over columns of different units says which unit is largest. After it the large
    columns crowd out the others, every sample loses its level and its size, and all samples look nearly alike.
How to fix: take mean and deviation over dimension 0 of the training set: `(x - x_train.mean(0)) /
    x_train.std(0)`, or scikit-learn's `StandardScaler` rather than its `normalize`.
When to ignore: when a row is one signal. Silent on images, series, spectra and windows (neighbouring columns are
    alike), and on embeddings and outputs of layer-norm, whose columns have no levels of their own. Fewer than
    ``samples`` samples or more than ``columns`` columns are not judged, nor rows whose neighbouring columns are alike
    (below ``roughness``): they are signals.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 4, (960,))
    scales = torch.tensor([1.0, 40.0, 3.0, 80.0, 2.0, 500.0, 5.0, 25.0])
    inputs = scales * (torch.tensor([1.0, 2.0] * 4) + torch.randn(4, 8)[labels] / 2 + torch.randn(960, 8) / 4)
    inputs = (inputs - inputs.mean(dim=1, keepdim=True)) / inputs.std(dim=1, keepdim=True)

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 4, (960,))
    scales = torch.tensor([1.0, 40.0, 3.0, 80.0, 2.0, 500.0, 5.0, 25.0])
    inputs = scales * (torch.tensor([1.0, 2.0] * 4) + torch.randn(4, 8)[labels] / 2 + torch.randn(960, 8) / 4)
    inputs = (inputs - inputs[:768].mean(dim=0)) / inputs[:768].std(dim=0)

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data import FieldValues
    >>> from lightning_debug.record import Record
    >>> values = FieldValues(stage="train", field="batch[0]", role="input", holds="values", shape=(8,), samples=500,
    ...                      row_deviation_lowest=1.0, row_deviation_highest=1.0, profile=0.93,
    ...                      means=(-0.4, 2.4, -0.5), deviations=(0.01, 0.1, 0.02))
    >>> [claim.message for claim in normalised_over_wrong_dim(Record([values]))]
    ['Every row of batch[0] has mean 0 and deviation 1, while its columns have means from -0.5 to 2.4.']
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator

from lightning_debug.evidence.data import FieldValues
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_layers import number

_SYMPTOMS = ("LD309", "LD501", "LD605", "LD702", "LD705", "LD712")


@rule("LD502", severity=WARNING, needs=FieldValues, explains=_SYMPTOMS)
def normalised_over_wrong_dim(
    record: Record,
    *,
    tolerance: float = 0.02,
    profile: float = 0.6,
    slight: float = 0.2,
    uneven: float = 8.0,
    roughness: float = 0.5,
    columns: int = 128,
    samples: int = 16,
    units: float = 20.0,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each table; neighbours more alike than ``roughness`` make it a signal."""
    last = {item.field: item for item in record.of(FieldValues) if item.stage == "train" and item.loader == 0}
    for values in last.values():
        if values.role != "input" or values.samples < samples:
            continue
        if values.steps is not None and _each_step(values, tolerance, profile, roughness, columns):
            yield _of_steps(values)
        if len(values.shape) != 1:
            continue
        count = values.shape[0]
        if _brought_to_length_one(values, tolerance, profile, roughness, columns, units):
            yield _of_length(values)
            continue
        deviation = values.row_deviation_highest
        even = abs(values.row_deviation_lowest - deviation) <= tolerance and 1 - tolerance <= deviation
        unit = even and deviation <= (count / max(1, count - 1)) ** 0.5 + tolerance
        if not unit or values.row_mean_highest > tolerance or not 3 < count <= columns:
            continue
        spreads = sorted(values.deviations)
        crowded = len(spreads) == count and spreads[-1] >= uneven * spreads[count // 2] > 0
        if values.profile < (slight if crowded else profile):
            continue
        if values.profile_roughness < roughness:
            yield Skip(f"neighbouring columns of {values.field} are alike: each row is a signal, normalised by itself")
            continue
        yield Claim(
            message=f"Every row of {values.field} has mean 0 and deviation 1, while its columns have means from "
            f"{number(min(values.means))} to {number(max(values.means))}"
            + (f" and deviations from {number(spreads[0])} to {number(spreads[-1])}." if crowded else "."),
            subject=values.field,
            measured={"profile": values.profile, "roughness": values.profile_roughness, "columns": count},
            fix="Normalise over dimension 0: (x - x_train.mean(0)) / x_train.std(0).",
            at=values.at,
        )


def _each_pixel(values: FieldValues, tolerance: float) -> bool:
    """Whether each pixel has mean 0 and deviation 1 over its three or four channels."""
    count, (mean, lowest, highest) = values.shape[0], values.steps or (math.inf, 0.0, 0.0)
    even = highest - lowest <= tolerance and abs(highest - 1) <= (count / (count - 1)) ** 0.5 - 1 + tolerance
    return mean <= tolerance and even


def _of_pixels(values: FieldValues) -> Claim:
    return Claim(
        message=f"Every pixel of {values.field} has mean 0 and deviation 1 over its {values.shape[0]} channels: how "
        "bright it is, which makes edges and shapes, is gone.",
        subject=values.field,
        measured={"channels": values.shape[0], "pixel_mean_highest": values.steps[0] if values.steps else 0.0},
        fix="Normalise each channel over samples and pixels, not each pixel over its channels: mean and deviation over "
        "dimensions (0, 2, 3) of the training set (of one picture, (1, 2)).",
        at=values.at,
    )


def _each_step(values: FieldValues, tolerance: float, profile: float, roughness: float, columns: int) -> bool:
    """Whether each step of a series is normalised over its channels, whose levels are of different units; or pixel."""
    if values.holds == "image":
        return _each_pixel(values, tolerance)
    count, (mean, lowest, highest) = values.shape[1], values.steps or (math.inf, 0.0, 0.0)
    even = highest - lowest <= tolerance and abs(highest - 1) <= (count / (count - 1)) ** 0.5 - 1 + tolerance
    if mean > tolerance or not even or not 3 < count <= columns or len(values.means) != count:
        return False
    middle = statistics.fmean(values.means)
    between = statistics.fmean((one - middle) ** 2 for one in values.means)
    total = between + statistics.fmean(one**2 for one in values.deviations)
    changes = statistics.fmean((one - two) ** 2 for one, two in itertools.pairwise(values.means)) / 2
    return between >= profile * total > 0 and changes >= roughness * between * count / (count - 1)


def _of_steps(values: FieldValues) -> Claim:
    if values.holds == "image":
        return _of_pixels(values)
    low, high = min(values.means), max(values.means)
    return Claim(
        message=f"Every step of {values.field} has mean 0 and deviation 1 over its {values.shape[1]} channels, while "
        f"these have means from {number(low)} to {number(high)}.",
        subject=values.field,
        measured={"channels": values.shape[1], "lowest": low, "highest": high},
        fix="Normalise over dimensions 0 and 1, samples and steps: (x - x_train.mean((0, 1))) / x_train.std((0, 1)).",
        at=values.at,
    )


def _levels(values: FieldValues) -> list[float]:
    """Root mean square of each column, in order."""
    return sorted(math.hypot(*pair) for pair in zip(values.means, values.deviations, strict=True))


def _brought_to_length_one(
    values: FieldValues, tolerance: float, profile: float, roughness: float, columns: int, units: float
) -> bool:
    """Whether each row is divided by its length, though columns of different units went into it."""
    unit = abs(values.row_length_lowest - 1) <= tolerance and abs(values.row_length_highest - 1) <= tolerance
    levels = _levels(values)
    if not unit or not 4 < values.shape[0] <= columns or len(levels) != values.shape[0] or values.zeros > 0.2:
        return False
    signal = values.profile_roughness < roughness
    return values.profile >= profile and not signal and levels[-1] >= units * levels[0] > 0


def _of_length(values: FieldValues) -> Claim:
    levels = _levels(values)
    return Claim(
        message=f"Every row of {values.field} is a vector of length 1, while its columns have sizes from "
        f"{number(levels[0])} to {number(levels[-1])}: it was divided by the row's length, which the largest make.",
        subject=values.field,
        measured={"profile": values.profile, "smallest column": levels[0], "largest column": levels[-1]},
        fix="Normalise over dimension 0, (x - x_train.mean(0)) / x_train.std(0): StandardScaler, not Normalizer.",
        at=values.at,
    )
