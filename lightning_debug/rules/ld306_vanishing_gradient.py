"""The gradient vanishes on its way to the early layers, and the loss does not fall.

What it sees: the root mean square of every weight's gradient at a few optimizer steps, and the losses. The first
    layers' gradient is less than the share ``share`` of the last ones' at every look after step ``settled``, it falls
    from the last layer to the first, and the loss has fallen by less than the share ``progress`` since the start, or
    predictions do not depend on the input: the last bias alone learns a mean.
Why it hurts: the early layers keep their random weights: the net is only as deep as the gradient reaches, and with
    saturating activations or small initial weights in ten layers that is not far.
How to fix: use ReLU or GELU instead of sigmoid and tanh, normalisation layers or residual connections between the
    layers, and an initialisation that keeps the variance (Kaiming for ReLU, Xavier for tanh).
When to ignore: when the early layers are not meant to be trained. Silent where the loss falls, where it is at its
    floor, on frozen layers, and on adversarial training and other losses that are not minimised.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            layers = [nn.Linear(8, 32), nn.Sigmoid()]
            for _ in range(9):
                layers += [nn.Linear(32, 32), nn.Sigmoid()]
            self.net = nn.Sequential(*layers, nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    labels = torch.randint(0, 4, (960,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Classifier(), train)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            layers = [nn.Linear(8, 32), nn.ReLU()]
            for _ in range(3):
                layers += [nn.Linear(32, 32), nn.LayerNorm(32), nn.ReLU()]
            self.net = nn.Sequential(*layers, nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    labels = torch.randint(0, 4, (960,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=6)
    trainer.fit(Classifier(), train)

Example:
    >>> from lightning_debug.evidence import Moment
    >>> from lightning_debug.evidence.gradients import GradientProfile, LayerGradient
    >>> from lightning_debug.evidence.numbers import StepWindow
    >>> from lightning_debug.record import Record
    >>> sizes = (1e-9, 3e-8, 1e-6, 3e-5, 1e-3)
    >>> layers = [LayerGradient(name=f"net.{i}.weight", values=64, gradient=g, weight=1) for i, g in enumerate(sizes)]
    >>> looks = [GradientProfile(layers=tuple(layers), at=Moment(step=step)) for step in (50, 100)]
    >>> window = StepWindow(steps=tuple(range(120)), losses={"loss": (1.4,) * 120})
    >>> [claim.measured["first"] for claim in vanishing_gradient(Record([window, *looks]))]
    ['net.0.weight']

References:
    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010), section 4.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from lightning_debug.evidence.gradients import GradientProfile, LayerGradient
from lightning_debug.evidence.numbers import StepWindow
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import constant_outputs
from lightning_debug.rules._step_history import single_loss


@rule(
    "LD306",
    severity=WARNING,
    needs=(GradientProfile, StepWindow),
    explains=("LD309", "LD602", "LD605", "LD702", "LD704", "LD705", "LD712"),
)
def vanishing_gradient(
    record: Record, *, share: float = 1e-4, settled: int = 20, progress: float = 0.05
) -> Iterator[Claim | Skip]:
    """Claims one finding where the gradient dies out towards the first layers and nothing is learned."""
    looks = [look for look in record.of(GradientProfile) if look.index == 0 and look.at.step >= settled]
    if len(looks) < 2:
        yield Skip(f"fewer than two looks at the gradients after step {settled}")
        return
    if any(one.index for one in record.of(GradientProfile)):
        yield Skip("several optimizers train against or beside each other")
        return
    losses = single_loss(record)
    if losses is None or len(losses) < 2 * settled:
        yield Skip("there is no single loss to see progress by, or too few steps")
        return
    start = statistics.median(losses[:10])
    now = statistics.median(losses[-max(10, len(losses) // 5) :])
    stuck = now >= (1 - progress) * start or any(constant_outputs(record))  # a mean is learned by the last bias alone
    if start <= 0 or not stuck or not all(_vanishes(look.layers, share) for look in looks):
        return
    layers = looks[-1].layers
    first, last = layers[0], layers[-1]
    yield Claim(
        message=f"The gradient of {first.name} is {first.gradient:.2g}, that of {last.name} {last.gradient:.2g} "
        f"(root mean square), and the loss is {now:.4g} after {start:.4g} at the start.",
        subject=first.name,
        measured={"first": first.name, "last": last.name, "gradient": first.gradient, "last_gradient": last.gradient},
        fix="Use ReLU or GELU, normalisation or residual connections between the layers, and a matching "
        "initialisation.",
        at=looks[-1].at,
    )


def _vanishes(layers: Sequence[LayerGradient], share: float) -> bool:
    """Whether the gradient falls from the last layers to the first ones, by more than ``share`` altogether."""
    if len(layers) < 4 or any(not math.isfinite(layer.gradient) for layer in layers):
        return False
    third = max(1, len(layers) // 3)
    parts = [layers[:third], layers[third : len(layers) - third], layers[len(layers) - third :]]
    early, middle, late = (statistics.median(layer.gradient for layer in part) for part in parts)
    return early < middle < late and layers[0].gradient < share * layers[-1].gradient and late > 0
