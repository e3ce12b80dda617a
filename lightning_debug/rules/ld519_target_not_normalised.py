"""Regression targets are so large that training spends its time on reaching them.

What it sees: targets and predictions of the regression losses on watched steps. At first the targets' root mean
    square exceeds `magnitude` and is `ratio` times that of the untrained predictions; and `steps` steps later
    or more, at the last look, training still suffers: the predictions' mean is further from the targets' than
    the targets' deviation, or their spread is below `reached` of it. Nothing is said before the run is over, since
    many networks reach such targets in time; nor of a run that broke off before `wait` of its planned batches.
Why it hurts: the network starts near 0 and moves by about the learning rate a step: it spends epochs on the
    mean of the targets, gradients are thousands of times too large, and the loss says nothing until then.
How to fix: subtract the targets' mean and divide by their standard deviation (of the training set), and undo
    that for metrics; or set the bias of the last layer to the mean, and scale its output.
When to ignore: when the run is only cut short. Silent where predictions begin on the targets' scale or reach
    it, and where they are behind by no more than the targets have moved since the first look: the returns of an
    agent that learns, or values that the net itself predicts, have no mean to subtract.
Broken:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            loss = F.mse_loss(self.net(inputs), targets)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("val_loss", F.mse_loss(self.net(inputs), targets))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(960, 6)
    labels = 180_000 + 60_000 * torch.tanh(inputs @ torch.randn(6, 1)) + 5_000 * torch.randn(960, 1)  # prices

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Regressor(), train, val)
Repaired:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            loss = F.mse_loss(self.net(inputs), targets)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("val_loss", F.mse_loss(self.net(inputs), targets))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(960, 6)
    labels = 180_000 + 60_000 * torch.tanh(inputs @ torch.randn(6, 1)) + 5_000 * torch.randn(960, 1)  # prices
    labels = (labels - labels[:768].mean()) / labels[:768].std()

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Regressor(), train, val)

Example:
    >>> from lightning_debug.evidence import Moment
    >>> from lightning_debug.evidence.data_values import FitsOver, RegressionFit
    >>> from lightning_debug.record import Record
    >>> fits = [RegressionFit(function="mse_loss", line="train.py:9", target_mean=152.0, target_deviation=77.0,
    ...                       prediction_mean=mean, prediction_deviation=0.3, at=Moment(step=step))
    ...         for step, mean in ((0, 0.1), (50, 4.0))]
    >>> [claim.message for claim in target_not_normalised(Record([*fits, FitsOver()]))]
    ['Targets lie at 152 ± 77 and the untrained predictions at 0.1 ± 0.3; at step 50 they are still at 4 ± 0.3.']
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.data_values import FitsOver, RegressionFit
from lightning_debug.evidence.run import RunContext
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_layers import number
from lightning_debug.rules._far_targets import MAGNITUDE, RATIO, begins_far, fits_by_line, guess

_SYMPTOMS = ("LD210", "LD305", "LD309", "LD310", "LD602", "LD605", "LD702", "LD704", "LD705")


@rule("LD519", severity=WARNING, needs=RegressionFit, explains=_SYMPTOMS)
def target_not_normalised(
    record: Record,
    *,
    magnitude: float = MAGNITUDE,
    ratio: float = RATIO,
    reached: float = 0.05,
    steps: int = 20,
    wait: float = 0.2,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each line with a regression loss."""
    context, over = record.last(RunContext), record.last(FitsOver)
    planned = (context.planned_steps or 0) if context is not None and over is not None and over.broken_off else 0
    least = max(steps, wait * planned)
    for (_, line), fits in fits_by_line(record).items():
        first, last = fits[0], fits[-1]
        if not begins_far(fits, magnitude, ratio):
            continue
        if over is None:
            yield Skip("the run has time to reach the regression targets, which lie far from the first predictions")
            continue
        if last.at.step - first.at.step < least:
            yield Skip(
                f"fewer than {math.ceil(least)} steps lie between the first look at the regression targets and the last"
            )
            continue
        moved = abs(last.target_mean - first.target_mean)  # returns, or values that the net itself predicts
        away = abs(last.prediction_mean - last.target_mean) > max(last.target_deviation, moved)
        narrow = last.prediction_deviation < reached * last.target_deviation and moved <= last.target_deviation
        if not (away or narrow):
            continue
        yield Claim(
            message=f"Targets lie at {number(last.target_mean)} ± {number(last.target_deviation)} and the untrained "
            f"predictions at {number(first.prediction_mean)} ± {number(first.prediction_deviation)}; at step "
            f"{last.at.step} they are still at {number(last.prediction_mean)} ± {number(last.prediction_deviation)}.",
            subject=line,
            measured={
                "target_mean": last.target_mean,
                "target_deviation": last.target_deviation,
                "first_prediction": guess(first),
                "last_prediction_mean": last.prediction_mean,
                "last_prediction_deviation": last.prediction_deviation,
                "step": last.at.step,
            },
            fix="Standardise the targets with the mean and deviation of the training set, and undo it for metrics.",
            at=last.at,
        )
