"""Sigmoid or tanh units are saturated: they no longer react to their input.

What it sees: isolated passes in eval mode over up to 64 samples each, on some steps and at the end of epochs. In
    ``looks`` of them in a row, each at another batch, at least ``share`` of a hidden layer's units have a derivative
    below 0.001 for 90 % of their values.
Why it hurts: a gradient through such a unit is multiplied by next to nothing. The layers before it stop learning,
    while what the unit gives is a constant, or a switch.
How to fix: normalise inputs, start with smaller weights (``nn.init.xavier_uniform_``), put a norm layer before the
    activation, lower the learning rate, or use ReLU or GELU in hidden layers.
When to ignore: when units are meant to be binary (hashing). It is silent on gates, whose output is multiplied by
    another activation (LSTM, GLU, squeeze-and-excitation), on outputs that no layer takes, such as a last
    sigmoid that is certain of its answers, on frozen layers, and on fewer than ``samples`` samples.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
            nn.init.normal_(self.net[2].weight, std=20.0)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(1152, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:1024], labels[:1024]), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1024:], labels[1024:]), batch_size=64)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(1152, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:1024], labels[:1024]), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(inputs[1024:], labels[1024:]), batch_size=64)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.activations import ActivationHealth, UnitHealth
    >>> from lightning_debug.record import Record
    >>> layer = UnitHealth(function="tanh", module="net.3", module_type="Tanh", units=32, saturated=28)
    >>> seen = ActivationHealth(steps=32, looks=3, samples=192, layers=(layer,))
    >>> for claim in saturated_units(Record([seen])):
    ...     print(claim.subject, "|", claim.message)
    net.3 | 28 of 32 units of `net.3` (Tanh) have a derivative below 0.001 for 90 % of their values,
    in 3 batches with 192 samples over 32 steps.

References:
    Glorot and Bengio: Understanding the difficulty of training deep feedforward neural networks (2010)
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.activations import ActivationHealth, UnitHealth
from lightning_debug.evidence.model import Place
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import named


@rule("LD308", severity=WARNING, needs=ActivationHealth, explains=("LD306", "LD605", "LD702", "LD712"))
def saturated_units(record: Record, *, share: float = 0.5, looks: int = 3, samples: int = 48) -> Iterator[Claim]:
    """Claims one finding for each layer, from the latest window of looks."""
    seen = record.last(ActivationHealth)
    if seen is None or seen.looks < looks or seen.samples < samples:
        return
    for layer in seen.layers:
        if layer.saturated >= share * layer.units and layer.units > 1 and layer.feeds_layer and not layer.is_gate:
            yield _claim(seen, layer)


def _claim(seen: ActivationHealth, layer: UnitHealth) -> Claim:
    place = Place(name=layer.function, module=layer.module, module_type=layer.module_type, line=layer.line)
    over = f"{seen.looks} batches with {seen.samples} samples over {seen.steps} steps"
    return Claim(
        message=f"{layer.saturated} of {layer.units} units of {named(place)} have a derivative below 0.001 for 90 % of "
        f"their values, in {over}.",
        subject=layer.module if layer.module_type in _LAYERS else (layer.line or layer.module),
        measured={"units": layer.units, "saturated": layer.saturated, "looks": seen.looks, "samples": seen.samples},
        fix="Start with smaller weights in the layer before it (divided by the square root of its inputs' number), "
        "put a norm layer between them, or normalise what comes in.",
        at=seen.at,
    )


_LAYERS = ("Sigmoid", "Tanh")
