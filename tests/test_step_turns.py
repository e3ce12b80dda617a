"""LD512 where the step, or a hook before it, flips, turns, reverses or negates what the loader delivered."""

import functools

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger
from tests.helpers import codes, debugged


def arrows(count, channels=1, shades=slice(0, 4)):
    """Pictures of arrows to the left and to the right, which rows of another shade tell from those upside down."""
    labels = torch.randint(0, 2, (count,))
    arrow = torch.zeros(channels, 12, 12)
    arrow[:, :, 8:] = 2.0
    arrow[:, shades] += torch.arange(1.0, channels + 1)[:, None, None]
    pictures = torch.where(labels[:, None, None, None] == 1, arrow, arrow.flip(-1))
    return pictures + 0.4 * torch.randn(count, channels, 12, 12), labels


def strokes(count):
    """White on black, in the upper or the lower half, the upper ones being a class; a part is black in many."""
    labels = torch.randint(0, 2, (count,))
    pictures = torch.rand(count, 1, 24, 24) * (torch.rand(count, 1, 24, 24) < 0.7)
    pictures[:, :, :12] *= labels.view(-1, 1, 1, 1)
    pictures[:, :, 12:] *= 1 - labels.view(-1, 1, 1, 1)
    return pictures, labels


def waves(count):
    """Series that rise slowly and fall at once, or the other way round; negated, they are neither."""
    labels = torch.randint(0, 2, (count,))
    series = torch.linspace(0, 3, 32).expand(count, 32).clone()
    series[:, 28:] = 0
    series = torch.where(labels[:, None] == 1, series, series.flip(-1))
    return (series + 0.2 * torch.randn(count, 32)) * 1.5, labels


def signs(count):
    """Series whose sign is the class."""
    labels = torch.randint(0, 2, (count,))
    return (2.0 * labels[:, None] - 1) * torch.linspace(1, 2, 32) + 0.3 * torch.randn(count, 32), labels


class Net(pl.LightningModule):
    """A small classifier whose training step changes its batch."""

    def __init__(self, values):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(values, 32), nn.ReLU(), nn.Linear(32, 2))

    def change(self, inputs, labels):
        return inputs, labels

    def prepare(self, inputs):
        return inputs

    def training_step(self, batch, batch_idx):
        inputs, labels = self.change(*batch)
        loss = F.cross_entropy(self.net(self.prepare(inputs)), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(self.prepare(batch[0])), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def some(inputs):
    """Half of the samples, drawn anew."""
    return torch.rand(len(inputs)) < 0.5


def half(turned, inputs):
    return torch.where(some(inputs).view(-1, *[1] * (inputs.ndim - 1)), turned, inputs)


class Flips(Net):
    def change(self, inputs, labels):
        return half(inputs.flip(-1), inputs), labels


class FlipsInPlace(Net):
    def change(self, inputs, labels):
        chosen = some(inputs)
        inputs[chosen] = inputs[chosen].flip(-1)
        return inputs, labels


class FlipsWholeBatches(Net):
    def change(self, inputs, labels):
        return (inputs.flip(-1) if self.global_step % 2 else inputs), labels


class FlipsInHook(Net):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        inputs, labels = batch
        return (half(inputs.flip(-1), inputs) if self.trainer.training else inputs), labels


class FlipsScaled(Flips):
    def prepare(self, inputs):
        scale = torch.arange(1.0, inputs.shape[1] + 1)[:, None, None]
        return (inputs / 3 - scale) / (0.5 * scale)


class Turns(Net):
    def prepare(self, inputs):
        return inputs / 2

    def change(self, inputs, labels):
        return inputs.rot90(2 * int(torch.rand(()) < 0.5), (-2, -1)), labels


class Negates(Net):
    def change(self, inputs, labels):
        return half(-inputs, inputs), labels


class FlipsDown(Net):
    """Harmless here: an arrow to the left stays one."""

    def change(self, inputs, labels):
        return half(inputs.flip(-2), inputs), labels


class FlipsLabelsToo(Net):
    def change(self, inputs, labels):
        chosen = some(inputs)
        return torch.where(chosen[:, None, None, None], inputs.flip(-1), inputs), torch.where(
            chosen, 1 - labels, labels
        )


class FlipsLabelsInHook(Net):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        inputs, labels = batch
        if not self.trainer.training:
            return batch
        chosen = some(inputs)
        return torch.where(chosen[:, None, None, None], inputs.flip(-1), inputs), torch.where(
            chosen, 1 - labels, labels
        )


class Mixes(Net):
    """Mixup whose draws are often near 0: the net then sees another sample of the batch."""

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        share, order = torch.distributions.Beta(0.2, 0.2).sample(), torch.randperm(len(inputs))
        scores = self.net(share * inputs + (1 - share) * inputs[order])
        loss = share * F.cross_entropy(scores, labels) + (1 - share) * F.cross_entropy(scores, labels[order])
        self.log("train_loss", loss)
        return loss


class MixesOneHot(Net):
    """Mixup with labels that are mixed themselves."""

    def change(self, inputs, labels):
        share, order = torch.distributions.Beta(0.4, 0.4).sample(), torch.randperm(len(inputs))
        known = F.one_hot(labels, 2).float()
        return share * inputs + (1 - share) * inputs[order], share * known + (1 - share) * known[order]


class MixesALittle(Net):
    """As noise, whose share stays small."""

    def change(self, inputs, labels):
        share = 0.2 * torch.rand(len(inputs)).view(-1, *[1] * (inputs.ndim - 1))
        return (1 - share) * inputs + share * inputs.roll(1, 0), labels


class MixesInputsAlone(Net):
    def change(self, inputs, labels):
        share = torch.rand(len(inputs)).view(-1, *[1] * (inputs.ndim - 1))
        return (share * inputs + (1 - share) * inputs[torch.randperm(len(inputs))]) / 2 - 1, labels


class Pastes(Net):
    """A part of another picture, as CutMix does, whose label nobody asks for."""

    def change(self, inputs, labels):
        return torch.cat([inputs[:, :, :3], inputs[torch.randperm(len(inputs)), :, 3:]], 2), labels


class Erases(Net):
    """A part of each picture, as random erasing does."""

    def change(self, inputs, labels):
        upper = inputs[:, :, : len(inputs[0, 0]) // 2]
        return torch.cat([upper, torch.zeros_like(upper)], 2), labels


class Agrees(Net):
    """Beside the pictures as they are, flipped ones, whose scores are to agree."""

    def training_step(self, batch, batch_idx):
        flipped = F.softmax(self.net(half(batch[0].flip(-1), batch[0])), 1)
        scores = self.net(batch[0])
        loss = F.cross_entropy(scores, batch[1]) + 0.01 * F.kl_div(
            F.log_softmax(scores, 1), flipped, reduction="batchmean"
        )
        self.log("train_loss", loss)
        return loss


class FlipsEverywhere(Net):
    """The camera hangs upside down, in validation as well."""

    def prepare(self, inputs):
        return inputs.flip(-1)


class Guesses(Net):
    """Learns which way pictures were flipped; their labels are not asked for."""

    def training_step(self, batch, batch_idx):
        chosen = some(batch[0])
        inputs = torch.where(chosen[:, None, None, None], batch[0].flip(-1), batch[0])
        loss = F.cross_entropy(self.net(inputs), chosen.long())
        self.log("train_loss", loss)
        return loss


def judged(kind, make, size=32, **options):
    torch.manual_seed(1)
    (inputs, labels), (others, their) = make(480), make(200)
    loaders = (
        DataLoader(TensorDataset(inputs, labels), size, shuffle=True),
        DataLoader(TensorDataset(others, their), 50),
    )
    debugger = Debugger(strict=True, console=False, select=["LD512"])
    return debugged(kind(inputs[0].numel()), *loaders, debugger=debugger, **{"max_epochs": 2, **options})


colours = functools.partial(arrows, channels=3)
upright = functools.partial(arrows, shades=slice(0, 0))


@pytest.mark.parametrize(
    ("kind", "make", "turn"),
    [
        (Flips, arrows, "flipped left to right"),
        (FlipsInPlace, arrows, "flipped left to right"),
        (FlipsWholeBatches, arrows, "flipped left to right"),
        (FlipsInHook, arrows, "flipped left to right"),
        (FlipsScaled, colours, "flipped left to right"),
        (Turns, upright, "turned by 180 degrees"),
        (Flips, waves, "reversed in time"),
        (Negates, signs, "negated"),
    ],
)
def test_a_step_that_makes_one_class_of_another_is_found(kind, make, turn):
    report = judged(kind, make)
    (finding,) = [item for item in report.findings if item.code == "LD512"]
    assert f"training samples are {turn}, and validation samples are not" in finding.message
    assert finding.measured["turn"] == turn


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (Net, arrows),
        (FlipsDown, arrows),
        (FlipsLabelsToo, arrows),
        (FlipsLabelsInHook, arrows),
        (Mixes, arrows),
        (MixesOneHot, arrows),
        (MixesALittle, arrows),
        (Agrees, arrows),
        (Erases, arrows),
        (Erases, strokes),
        (FlipsEverywhere, arrows),
        (Guesses, arrows),
        (Negates, waves),
        (Net, waves),
    ],
)
def test_what_keeps_or_follows_the_label_is_not(kind, make):
    assert "LD512" not in codes(judged(kind, make))


def test_steps_whose_batches_were_not_kept_tell_nothing():
    assert "LD512" in codes(judged(Flips, arrows, size=8, max_epochs=3, check_val_every_n_epoch=3))


@pytest.mark.parametrize(("kind", "make"), [(MixesInputsAlone, colours), (MixesInputsAlone, upright), (Pastes, arrows)])
def test_samples_that_are_mixed_without_their_labels_are_found(kind, make):
    (finding,) = [item for item in judged(kind, make).findings if item.code == "LD512"]
    assert "mixed with another one of their batch" in finding.message
    assert 0.4 < finding.measured["share of the other"] < 0.9
