"""Validation inputs are prepared in another way than training inputs.

What it sees: mean and standard deviation of each feature (column or channel) in training and in the first
    validation loader: as delivered, or where they reach the first layer. One of three: the typical feature's
    means are `shift` training deviations apart (twice that with fewer than 3 features, unless the loaders deliver one
    scale, to within `same`, and the steps make two of it); the typical feature's deviations differ `scale` times
    (likewise); or one set is signed and the other nowhere below 0, with deviations
    `bounded` times apart, and means a deviation apart or lowest and highest values as many deviations from the mean
    (the same data on another scale, to within `same` deviations), or the means of many features, which correlate
    by at least `alike` in the two sets, as much wider apart as the deviations are larger; or the deviations of the
    features are even in one set and `uneven` in the other (the deviation of their logarithms), as a scaler by column
    leaves them and finds them, and differ half of `scale` times; or the loaders deliver one scale, which one set
    keeps and the other has with mean 0 and deviation 1, `bounded` deviations or times apart; or one set holds whole
    numbers and the other does not, with deviations `bounded` times apart. Or a few features,
    where the others are alike: their means are `single` of the larger deviations apart, and these differ `scale` times
    (or one such deviation, where these differ `huge` times). Or many values are the least one, as many in both
    sets, which is another one in validation, while the others lie above it alike. Or the targets of a loss are four
    times as wide in one set, by a factor or as they were before they were standardised, while the predictions of a
    net that has learned are alike in both.
    At least `samples` samples on both sides; the p-value of the shift is given.
Why it hurts: the network is asked about inputs that it was not trained on. Validation loss and metrics then say
    nothing about the model, and early stopping and model selection follow them.
How to fix: put both sets through the same preparation, with the mean and the deviation of the training set.
When to ignore: when validation is meant to come from elsewhere. Silent where the classes of the validation set
    are others, on drift of moderate size, on series whose level wanders while their windows spread as before,
    on a few wild samples in one set, on further validation loaders, and where one of these gives what training does
    (earlier tasks and other domains beside the one that is trained).
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
    inputs = 40.0 + 6.0 * (torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8))
    mean, deviation = inputs[:768].mean(dim=0), inputs[:768].std(dim=0)
    inputs[:768] = (inputs[:768] - mean) / deviation

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
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
    inputs = 40.0 + 6.0 * (torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8))
    mean, deviation = inputs[:768].mean(dim=0), inputs[:768].std(dim=0)
    inputs = (inputs - mean) / deviation

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data import FieldValues
    >>> from lightning_debug.record import Record
    >>> train = FieldValues(stage="train", field="batch[0]", samples=512, means=(0.0,) * 3, deviations=(1.0,) * 3)
    >>> val = FieldValues(stage="validate", field="batch[0]", samples=128, means=(40.0,) * 3, deviations=(6.0,) * 3)
    >>> [claim.message for claim in train_val_preprocessing_differs(Record([train, val]))]
    ['batch[0] has mean 0 and deviation 1 in training, 40 and 6 in validation: 40 deviations apart, p < 1e-300.']

References:
    Breck et al., Data validation for machine learning (2019), training-serving skew.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator

from lightning_debug.evidence.data import FieldValues
from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_floors import moved_floors
from lightning_debug.rules._data_layers import (
    another_loader_agrees,
    delivered_alike,
    first_layers,
    number,
    pooled,
    standardised_alone,
)
from lightning_debug.rules._data_parts import by_part
from lightning_debug.rules._data_renumbered import targets_in_other_units
from lightning_debug.rules._data_scales import (
    counts_in_one,
    holds_other_classes,
    is_categorical,
    is_on_another_scale,
    is_rescaled,
    is_scaled_by_column,
    is_signed,
    made_by_few,
    spread_alike,
)


@rule("LD515", severity=ERROR, needs=FieldValues, explains=("LD212", "LD413", "LD706", "LD707", "LD712"))
def train_val_preprocessing_differs(
    record: Record,
    *,
    shift: float = 2.5,
    scale: float = 4.0,
    bounded: float = 1.5,
    same: float = 0.1,
    alike: float = 0.5,
    single: float = 3.0,
    huge: float = 100.0,
    uneven: float = 0.4,
    samples: int = 16,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each field."""
    yield from targets_in_other_units(record)
    judged = functools.partial(
        _judged,
        shift=shift,
        scale=scale,
        bounded=bounded,
        same=same,
        alike=alike,
        single=single,
        huge=huge,
        uneven=uneven,
        samples=samples,
    )
    if _pairs(record):
        yield from judged(record)
        return
    parts = [list(judged(part)) for part in by_part(record)]
    if not parts:
        yield Skip("no field was seen in training and in validation")
    elif all(parts):  # validation is prepared as none of the loaders that training joins
        yield from parts[0]


def _judged(
    record: Record,
    *,
    shift: float,
    scale: float,
    bounded: float,
    same: float,
    alike: float,
    single: float,
    huge: float,
    uneven: float,
    samples: int,
) -> Iterator[Claim | Skip]:
    if holds_other_classes(record):
        yield Skip("validation holds other classes than training, so other values are to be expected")
        return
    pairs = _pairs(record)
    told = {train.field for train, _ in pairs if another_loader_agrees(record, train.field) is not False}
    for train, val in pairs:
        if train.field in told or min(train.samples, val.samples) < samples or is_categorical(train, val):
            continue
        both = zip(train.means, train.deviations, val.means, val.deviations, strict=True)
        features = [item for item in both if item[1] > 0 and item[3] > 0]
        if not features:
            continue
        few = 2.0 if len(features) < 3 and not delivered_alike(record, train, same) else 1.0
        apart = statistics.median_low([abs(second - first) / deviation for first, deviation, second, _ in features])
        ratio = statistics.median_low([other / deviation for _, deviation, _, other in features])
        close = statistics.median_low([abs(second - first) / min(one, other) for first, one, second, other in features])
        factor = max(ratio, 1 / ratio)
        rescaled = close >= 1.0 or is_rescaled(train, val, same) or spread_alike(features, ratio, alike)
        signed = is_signed(train, val) and rescaled and factor >= bounded
        by_column = factor >= scale / 2 and is_scaled_by_column(features, uneven)
        wide = (factor >= scale * few or by_column) and not made_by_few(train, val, close)
        counts = counts_in_one(train, val) if factor >= bounded else ""
        scaled = bool(counts) or ((wide or signed) and not _wanders(record, train.field, ratio))
        scaled = scaled or (max(apart, factor) >= bounded and standardised_alone(record, train, val, same))
        odd = [item for item in features if is_on_another_scale(item, single, scale, huge)]
        one = odd[0] if 0 < 4 * len(odd) <= len(features) else None
        if apart < shift * few and not scaled and one is None:
            continue
        told.add(train.field)
        (first, deviation), (second, other) = pooled(train), pooled(val)
        what = train.field
        if apart < shift * few and not scaled and one is not None:
            first, deviation, second, other = one
            apart, ratio = abs(second - first) / deviation, other / deviation
            what = f"Feature {train.means.index(first)} of {train.field}"
        elif apart < shift * few and (other > deviation) != (ratio > 1):  # a few large features would belie the rest
            first, deviation, second, other = min(features, key=lambda item: abs(item[3] / item[1] - ratio))
            what = f"The typical feature of {train.field}"
        independent = 1 / (1 / train.samples + 1 / val.samples)
        chance = math.erfc(apart * math.sqrt(independent / 2))
        where = f" at `{train.module}`" if isinstance(train, FirstLayerInput) and train.module else ""
        differs = (
            f"{number(apart)} deviations apart, p {_chance(chance)}"
            if apart >= shift * few or factor < bounded
            else f"the typical feature spreads {number(factor)} times {'more' if ratio > 1 else 'less'}"
        )
        yield Claim(
            message=f"{what} has mean {number(first)} and deviation {number(deviation)} in training{where}, "
            f"{number(second)} and {number(other)} in validation: {differs}{counts}.",
            subject=train.field,
            measured={
                "shift": apart,
                "ratio": ratio,
                "p": chance,
                "train_samples": train.samples,
                "validation_samples": val.samples,
            },
            fix="Prepare validation inputs as training inputs are: the same "
            + ("logarithm, division, mean and deviation." if counts else "division, mean and deviation."),
            at=val.at,
        )
    yield from (claim for claim in moved_floors(record, samples) if claim.subject not in told)


def _pairs(record: Record) -> list[tuple[FieldValues | FirstLayerInput, FieldValues | FirstLayerInput]]:
    """Training and validation of the same field: as delivered, then where it reaches the first layer."""
    found: list[tuple[FieldValues | FirstLayerInput, FieldValues | FirstLayerInput]] = []
    delivered = [item for item in record.of(FieldValues) if item.loader == 0 and item.role in ("input", "")]
    last = {(item.stage, item.field): item for item in delivered}
    layers = {
        (item.stage, item.field, item.module): item
        for stage in ("train", "validate")
        for item in first_layers(record, stage)
    }
    reached = {field for stage, field, _ in layers if stage == "train"}
    for (stage, field), train in last.items():
        val = last.get(("validate", field))
        in_use = field in reached or not reached
        if stage != "train" or val is None or not in_use or len(val.means) != len(train.means):
            continue
        if not _made_equal(layers, field):
            found.append((train, val))
    for (stage, field, module), layer in layers.items():
        other = layers.get(("validate", field, module))
        if stage == "train" and other is not None and layer.means and len(other.means) == len(layer.means):
            found.append((layer, other))
    return found


def _made_equal(layers: dict[tuple[str, str, str], FirstLayerInput], field: str) -> bool:
    """Whether the first layers receive the same scale although other values are delivered."""
    for (stage, name, module), layer in layers.items():
        other = layers.get(("validate", name, module))
        if stage == "train" and name == field and other is not None and layer.means and other.means:
            first, deviation = pooled(layer)
            second, spread = pooled(other)
            if deviation > 0 and spread > 0:
                return abs(first - second) < deviation and 0.5 < spread / deviation < 2.0
    return False


def _wanders(record: Record, field: str, ratio: float) -> bool:
    """Whether windows of a series spread as much in both sets: its level wanders, and their values were not scaled."""
    last = {item.stage: item for item in record.of(FieldValues) if item.loader == 0 and item.field == field}
    train, val = last.get("train"), last.get("validate")
    if train is None or val is None or "series" not in (train.holds, val.holds):
        return False
    within = val.row_deviation_highest / train.row_deviation_highest if train.row_deviation_highest > 0 else ratio
    return (within**2 < ratio) if ratio > 1 else (within**2 > ratio)


def _chance(chance: float) -> str:
    return f"= {chance:.1g}" if chance > 1e-300 else "< 1e-300"
