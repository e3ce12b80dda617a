"""Units of a ReLU layer are dead: 0 for every sample, so that no gradient reaches them.

What it sees: isolated passes in eval mode over up to 64 samples each, on some steps and at the end of epochs. In
    ``looks`` of them in a row, each at another batch, at least ``share`` of a layer's units are 0 for all samples
    and at all positions; where a ReLU gives 0 its derivative is 0. They were so before training, or that share of the
    units that lived then has died.
Why it hurts: such a unit gets no gradient, and never comes back. The layer is as narrow as the units that are left,
    and once all have died, the output is constant.
How to fix: lower the learning rate or warm it up (one step too large pushes biases far below zero), leave biases at
    zero at the start, normalise inputs, or use LeakyReLU, GELU or SiLU.
When to ignore: when the layer is far wider than it needs to be. It is silent on sparse activations, which are 0 for
    some samples only, on layers whose input hardly varies (chance then silences about half of the units) and that
    lose a few more in training, on frozen layers, on outputs that no layer takes, and on fewer than ``samples``
    samples. Layers of fewer than ``few`` units only count when all of their units are dead.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
            nn.init.constant_(self.net[2].bias.data[:28], -20.0)

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
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

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
    >>> layer = UnitHealth(function="relu", module="net.3", module_type="ReLU", units=32, silent=28)
    >>> seen = ActivationHealth(steps=32, looks=3, samples=192, layers=(layer,))
    >>> for claim in dead_units(Record([seen])):
    ...     print(claim.subject, "|", claim.message)
    net.3 | 28 of 32 units of `net.3` (ReLU) are 0 for all 192 samples of 3 batches, seen over 32 steps;
    0 of them were so at the start.

References:
    Lu et al.: Dying ReLU and Initialization, https://arxiv.org/abs/1903.06733
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.activations import ActivationHealth, UnitHealth
from lightning_debug.evidence.model import Place
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import named


@rule(
    "LD307", severity=WARNING, needs=ActivationHealth, explains=("LD306", "LD309", "LD605", "LD702", "LD705", "LD712")
)
def dead_units(
    record: Record, *, share: float = 0.75, looks: int = 3, samples: int = 48, few: int = 16
) -> Iterator[Claim]:
    """Claims one finding for each layer, from the latest window of looks."""
    seen = record.last(ActivationHealth)
    if seen is None or seen.looks < looks or seen.samples < samples:
        return
    for layer in seen.layers:
        enough = layer.units >= few or layer.silent == layer.units
        if enough and layer.units > 1 and layer.feeds_layer and _by_fault(layer, share):
            yield _claim(seen, layer)


def _by_fault(layer: UnitHealth, share: float) -> bool:
    """Whether that share was silent before training, or that share of the units that were not has died since."""
    born, died = layer.silent_at_start, layer.silent - layer.silent_at_start
    return born >= share * layer.units or (layer.silent >= share * layer.units and died >= share * (layer.units - born))


def _claim(seen: ActivationHealth, layer: UnitHealth) -> Claim:
    place = Place(name=layer.function, module=layer.module, module_type=layer.module_type, line=layer.line)
    start = f"; {layer.silent_at_start} of them were so at the start"
    return Claim(
        message=f"{layer.silent} of {layer.units} units of {named(place)} are 0 for all {seen.samples} samples "
        f"of {seen.looks} batches, seen over {seen.steps} steps{start}.",
        subject=layer.module if layer.module_type in _LAYERS else (layer.line or layer.module),
        measured={"units": layer.units, "silent": layer.silent, "looks": seen.looks, "samples": seen.samples},
        fix="Start with biases at zero and default weights, normalise what comes in, or use LeakyReLU or GELU."
        if layer.silent_at_start >= 0.9 * layer.silent
        else "Lower the learning rate or warm it up, start biases at zero, or use LeakyReLU or GELU.",
        at=seen.at,
    )


_LAYERS = ("ReLU", "ReLU6", "Threshold", "Hardtanh")
