"""Weights start out equal, or of a wrong size, so that units learn the same or signals die.

What it sees: linear layers and convolutions whose rows, one a unit, were all equal before training, and are equal
    after the first steps: they got equal gradients, or none; and matrices among a module's own parameters that hold
    one value, and whose rows or columns get equal gradients all the same, or one of exactly zero that is not zero
    once they are random. So do rows that training leaves as they were, where predictions do not depend on the
    input. Also, before training, layers that make signals larger ``gain`` times or more each, at least two of them,
    so that the last one gives values around ``largest`` or more; or that make them smaller ``gain`` times or more
    each, so that less than ``died`` of the first one's input is left, where predictions still do not depend on the
    input after training for ``steps`` steps.
Why it hurts: units that start alike and get equal gradients stay alike: a layer of them is one unit. Weights of zero
    in several layers pass neither signals nor gradients on. Signals that grow from layer to layer give an enormous
    loss to begin with, and gradients to match.
How to fix: leave PyTorch's initialisation, or use ``nn.init.kaiming_normal_`` (before ReLU) or
    ``nn.init.xavier_uniform_`` (before tanh); start only the last layer of a residual branch with zeros.
When to ignore: hardly ever. It is silent on a zero start that training leaves (last layers, residual branches, the
    second matrix of LoRA), biases, norms, frozen weights, and layers of one unit.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
            for layer in self.net:
                if isinstance(layer, nn.Linear):
                    nn.init.constant_(layer.weight, 0.1)
                    nn.init.zeros_(layer.bias)

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

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
            for layer in self.net:
                if isinstance(layer, nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    nn.init.zeros_(layer.bias)

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

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.model import AlikeUnits, Initialisation, InputDependence
    >>> from lightning_debug.record import Record
    >>> unit = AlikeUnits(name="net.0.weight", shape=(32, 8), moved=True, gradient_alike=True)
    >>> for claim in degenerate_initialisation(Record([Initialisation(steps=8, alike=(unit,))])):
    ...     print(claim.subject, "|", claim.message)
    net.0.weight | All 32 rows of net.0.weight were equal before training and are equal after 8 optimizer steps that
    changed them: its units learn the same.

References:
    He et al.: Delving Deep into Rectifiers, https://arxiv.org/abs/1502.01852
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.model import AlikeUnits, Initialisation, InputDependence, LayerSignal
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._curves import resumed
from lightning_debug.rules._model import listed, named


@rule(
    "LD411",
    severity=WARNING,
    needs=Initialisation,
    explains=("LD210", "LD306", "LD307", "LD309", "LD408", "LD602", "LD605", "LD702", "LD704", "LD705", "LD712"),
)
def degenerate_initialisation(
    record: Record, *, gain: float = 4.0, largest: float = 30.0, died: float = 1e-3, steps: int = 30
) -> Iterator[Claim]:
    """Claims one finding for units that stay alike, or else one for signals that grow, or die and stay dead."""
    for seen in record.of(Initialisation):
        stuck = _constant(record, steps)  # a norm of equal units passes next to nothing on
        zeros = [unit for unit in seen.alike if unit.gradient_zero and (seen.others_move or unit.woken)]
        alike = [unit for unit in seen.alike if unit.moved or stuck or unit in zeros]
        if alike and seen.steps:
            yield _alike(seen, alike)
            return
        if resumed(record):
            continue  # what layers do by now they have learned
        growing = [item for item in seen.signals if item.before > 0 and item.after >= gain * item.before]
        if len(growing) >= 2 and seen.signals[-1].after >= largest:
            last = seen.signals[-1]
            factor = growing[0].after / growing[0].before
            yield Claim(
                message=f"Before training, {len(growing)} of {len(seen.signals)} layers make signals larger "
                f"({named(growing[0].place)} {factor:.2g} times), and {named(last.place)} gives values around "
                f"{last.after:.2g}.",
                subject=growing[0].place.module or growing[0].place.line,
                measured={
                    "growing": tuple(item.place.module for item in growing),
                    "gain_of_the_first": factor,
                    "last_output": last.after,
                },
                fix="Initialise weights by their fan-in: nn.init.kaiming_normal_ before ReLU, xavier_uniform_ else.",
                at=seen.at,
            )
            return
        fading = [item for item in seen.signals if item.before > 0 and item.after * gain <= item.before]
        gone = bool(fading) and seen.signals[-1].after <= died * seen.signals[0].before
        if len(fading) >= 2 and gone and _constant(record, steps):
            yield _fading(seen, fading)
            return


def _constant(record: Record, steps: int) -> bool:
    """Whether the latest look at predictions finds that inputs do not change them."""
    seen = record.last(InputDependence)
    return seen is not None and seen.steps >= steps and seen.targets_vary and seen.change <= 1e-3 * seen.spread


def _fading(seen: Initialisation, fading: list[LayerSignal]) -> Claim:
    first, last = fading[0], seen.signals[-1]
    factor = first.after / first.before
    return Claim(
        message=f"Before training, {len(fading)} of {len(seen.signals)} layers make signals smaller "
        f"({named(first.place)} {factor:.2g} times), {named(last.place)} gives values around {last.after:.2g}, and "
        f"training has not changed that: predictions do not depend on the input.",
        subject=first.place.module or first.place.line,
        measured={
            "fading": tuple(item.place.module for item in fading),
            "gain_of_the_first": factor,
            "last_output": last.after,
        },
        fix="Initialise weights by their fan-in: nn.init.kaiming_normal_ before ReLU, xavier_uniform_ else.",
        at=seen.at,
    )


def _alike(seen: Initialisation, alike: list[AlikeUnits]) -> Claim:
    first = alike[0]
    also = f" (so are {listed([unit.name for unit in alike[1:]])})" if len(alike) > 1 else ""
    value = "" if first.value is None else f" to {first.value:.3g}"
    if first.moved:
        what = f"are equal after {seen.steps} optimizer steps that changed them{also}: its units learn the same"
    elif first.gradient_zero:
        what = f"are so after {seen.steps} optimizer steps{also}: its gradient is exactly 0"
    else:
        what = f"are so after {seen.steps} optimizer steps{also}: predictions do not depend on the input"
    return Claim(
        message=f"All {first.shape[0]} rows of {first.name} were equal{value} before training and {what}.",
        subject=first.name,
        measured={
            "parameters": tuple(unit.name for unit in alike),
            "rows": first.shape[0],
            "optimizer_steps": seen.steps,
            "gradient_is_zero": first.gradient_zero,
        },
        fix="Start with random weights: nn.init.kaiming_normal_ before ReLU, nn.init.xavier_uniform_ else.",
        at=seen.at,
    )
