"""Inputs reach the first layer on a scale that its weights are not made for.

What it sees: what arrives at the first weights that the inputs meet, after all that the step does to them
    without weights (a division by 255, a logarithm, a normalisation on the device), in the first steps. One of
    three: the values' root mean square exceeds `magnitude` and what the layer makes of them exceeds `response`;
    or one feature's spread, times its weights, is `ratio` times the typical feature's and exceeds `response`;
    or the features' mean exceeds their spread `offset` times (and 1). Or all values are less than one part in
    `tiny` of 1, and the predictions do not depend on them (LD309), or a batch-norm lags behind (LD413).
Why it hurts: weights are initialised for inputs of the order of 1. With larger ones the first activations and
    gradients are as many times too large, the learning rate fits no layer, one feature drowns the others, or an
    offset leaves the gradient with one direction only.
How to fix: subtract the mean and divide by the standard deviation of each feature over the training set (images:
    divide by 255, then normalise each channel; sound of 16 bits: divide by 32768); or begin the network with
    `nn.BatchNorm1d(features)`.
When to ignore: when the first layer's weights were trained on such values. Silent where a normalisation layer comes
    first or directly after the first layer, on tokens and embeddings, and on counts, flags and categories: features
    of whole numbers that span at most `levels`, or that are mostly 0. Fewer than ``samples`` samples are not judged.
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
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)
    inputs = inputs * torch.tensor([1.0, 1.0, 0.5, 2.0, 1.0, 30.0, 1.0, 4000.0])  # a price among shares and rates

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
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)
    inputs = inputs * torch.tensor([1.0, 1.0, 0.5, 2.0, 1.0, 30.0, 1.0, 4000.0])  # a price among shares and rates
    inputs = (inputs - inputs[:768].mean(dim=0)) / inputs[:768].std(dim=0)

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data_values import FirstLayerInput
    >>> from lightning_debug.record import Record
    >>> seen = FirstLayerInput(field="batch[0]", module="net.0", operation="conv2d", samples=96, highest=255.0,
    ...                        root_mean_square=134.0, means=(115.0,), deviations=(69.0,), zeros=(0.0,), output=77.0)
    >>> [claim.message for claim in input_not_normalised(Record([seen]))]
    ['Values from 0 to 255 (root mean square 134) reach `net.0`, which gives values around 77.']

References:
    LeCun, Bottou, Orr, Müller, Efficient BackProp (1998), section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.evidence.modes import ModeGap
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_formats import fix_by_format
from lightning_debug.rules._data_layers import PRODUCTS, first_layers, number, root_mean_square
from lightning_debug.rules._model import constant_outputs

_BOUNDED = ("lstm", "gru", "rnn_tanh")  # what they return lies between -1 and 1
_SYMPTOMS = ("LD210", "LD305", "LD307", "LD308", "LD309", "LD413", "LD702", "LD705", "LD713")


@rule("LD501", severity=WARNING, needs=FirstLayerInput, explains=_SYMPTOMS)
def input_not_normalised(
    record: Record,
    *,
    magnitude: float = 20.0,
    response: float = 10.0,
    ratio: float = 100.0,
    offset: float = 20.0,
    levels: int = 50,
    samples: int = 8,
    tiny: float = 50.0,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each field."""
    layers = [item for item in first_layers(record) if item.operation in PRODUCTS and item.means]
    told: set[str] = set()
    for layer in layers:
        if layer.samples < samples or layer.field in told:
            continue
        kept = _continuous(layer, levels)
        if not kept:
            continue
        means, deviations = [layer.means[index] for index in kept], [layer.deviations[index] for index in kept]
        power = [math.hypot(mean, deviation) for mean, deviation in zip(means, deviations, strict=True)]
        whole = root_mean_square(power) * (len(kept) / len(layer.means)) ** 0.5
        bounded = layer.operation in _BOUNDED or layer.output is None
        output = whole if bounded or layer.output is None else layer.output
        spreads = _spreads(layer, kept)
        typical, largest = sorted(spreads)[(len(spreads) - 1) // 2], max(spreads)
        varying = [index for index in range(len(kept)) if deviations[index] > 0]
        centre = root_mean_square([means[index] for index in varying])
        spread = root_mean_square([deviations[index] for index in varying])
        measured = {
            "lowest": layer.lowest,
            "highest": layer.highest,
            "root_mean_square": layer.root_mean_square,
            "output": layer.output,
            "largest_spread": largest,
            "typical_spread": typical,
            "mean": centre,
            "spread": spread,
        }
        if whole > magnitude and output > response and not layer.normalised_after:
            message = (
                f"Values from {number(layer.lowest)} to {number(layer.highest)} (root mean square {number(whole)}) "
                f"reach {_name(layer)}, which {'saturates' if bounded else f'gives values around {number(output)}'}."
            )
        elif largest > response and typical > 0 and largest >= ratio * typical:
            message = (
                f"One feature of {layer.field} spreads over {number(largest)} and the typical one over "
                f"{number(typical)}, {number(largest / typical)} times less, where they reach {_name(layer)}."
            )
        elif varying and centre > max(1.0, offset * spread) and not layer.normalised_after:
            message = (
                f"The features of {layer.field} lie at {number(centre)} and spread by {number(spread)} only, "
                f"{number(centre / spread)} times less, where they reach {_name(layer)}."
            )
        elif _is_tiny(layer, 1 / tiny) and constant_outputs(record):
            message = (
                f"Values from {number(layer.lowest)} to {number(layer.highest)} (root mean square {number(whole)}) "
                f"reach {_name(layer)}: beside its bias they count for nothing, and predictions do not depend on them."
            )
        elif _is_below_epsilon(layer, 1 / tiny) and _lags(record):
            message = (
                f"Values from {number(layer.lowest)} to {number(layer.highest)} (root mean square {number(whole)}) "
                f"reach {_name(layer)}: so small that the batch-norm after it takes hundreds of steps to know their "
                "size, and eval mode differs until then."
            )
        else:
            continue
        told.add(layer.field)
        yield Claim(
            message=message,
            subject=layer.field,
            measured=measured,
            fix=_fix(layer),
            at=layer.at,
        )
    if not layers:
        yield Skip("no input met the weights of a linear, convolutional or recurrent layer in the steps watched")


def _is_tiny(layer: FirstLayerInput, most: float) -> bool:
    """Whether all values are smaller than that, and nothing makes them larger before they are added up."""
    return 0 < max(-layer.lowest, layer.highest) < most and not layer.normalised_after


def _is_below_epsilon(layer: FirstLayerInput, most: float) -> bool:
    """Whether values are small, and the square of how they spread is no more than a norm layer's epsilon of 1e-5."""
    small = 0 < max(-layer.lowest, layer.highest) < most and layer.normalised_after
    return small and root_mean_square(layer.deviations) < 3e-3


def _lags(record: Record) -> bool:
    """Whether training costs far more in eval mode than in train mode, which the batch's own statistics cure."""
    gap = record.last(ModeGap)
    return gap is not None and gap.eval_loss > 2 * max(gap.train_loss, gap.cured_loss)


def _continuous(layer: FirstLayerInput, levels: int) -> list[int]:
    """Features that are neither counts, categories nor flags."""
    found = []
    for index, (mean, deviation) in enumerate(zip(layer.means, layer.deviations, strict=True)):
        zeros = layer.zeros[index] if layer.zeros else 0.0
        discrete = layer.whole and (abs(mean) + 2 * deviation <= levels)
        if not discrete and not (layer.whole and zeros > 0.5 and len(layer.means) > 4):
            found.append(index)
    return found


def _spreads(layer: FirstLayerInput, kept: list[int]) -> list[float]:
    """Spread of each feature as the layer feels it: those that hardly ever differ from 0 are left out."""
    found = []
    for index in kept:
        weight = layer.weights[index] if len(layer.weights) == len(layer.means) else 1.0
        if not layer.zeros or layer.zeros[index] < 0.5:
            found.append(layer.deviations[index] * weight)
    return found or [0.0]


def _name(layer: FirstLayerInput) -> str:
    return f"`{layer.module}`" if layer.module else layer.line or "the first layer"


def _fix(layer: FirstLayerInput) -> str:
    if layer.lowest >= 0 and 0.9 / 255 < layer.highest < 1.01 / 255:
        return "Divide by 255 once, not twice, and subtract the mean of the training set and divide by its deviation."
    what = "channel" if layer.operation.startswith("conv") else "feature"
    return fix_by_format(layer) or (
        f"Subtract from each {what} its mean over the training set and divide by its standard deviation, in the "
        "dataset or with a normalisation layer in front."
    )
