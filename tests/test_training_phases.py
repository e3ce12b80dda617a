"""Runs in phases: from some epoch on other parameters are trained, for another loss, and the curves say so."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger
from lightning_debug.evidence.run import TrainedPart
from tests.helpers import debugged


class Phases(pl.LightningModule):
    """Fits an autoencoder for some epochs, then a classifier on what its frozen encoder gives."""

    def __init__(self, first, *, freezes=True):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 8), nn.Linear(8, 8)
        self.classifier = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.first, self.freezes = first, freezes

    def on_train_epoch_start(self):
        if self.freezes:
            for part in (self.encoder, self.decoder, self.classifier):
                part.requires_grad_((part is not self.classifier) == (self.current_epoch < self.first))

    def training_step(self, batch, index):
        inputs, labels = batch
        if self.current_epoch < self.first:
            return nn.functional.mse_loss(self.decoder(self.encoder(inputs)), inputs)
        return nn.functional.cross_entropy(self.classifier(self.encoder(inputs)), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def fitted(model, epochs=8):
    pl.seed_everything(0, verbose=False)
    labels = torch.randint(0, 4, (640,))
    inputs = 0.5 * torch.randn(4, 8)[labels] + 0.3 * torch.randn(640, 8)
    debugger = Debugger(strict=True, console=False)
    loader = DataLoader(TensorDataset(inputs, labels), 20, shuffle=True)
    report = debugged(model, loader, debugger=debugger, max_epochs=epochs)
    return report, debugger.session.record.of(TrainedPart)


def test_a_new_phase_is_no_rise_and_no_spike():
    report, phases = fitted(Phases(5))
    assert [(item.step, item.left, item.joined) for item in phases] == [(5 * 32, 4, 4)]
    assert not {"LD701", "LD702", "LD704", "LD705", "LD713"} & {item.code for item in report.findings}


class Turns(Phases):
    """Each phase has an optimizer of its own, and steps it by hand."""

    def __init__(self, first):
        super().__init__(first, freezes=False)
        self.automatic_optimization = False

    def training_step(self, batch, index):
        optimizer = self.optimizers()[self.current_epoch >= self.first]
        loss = super().training_step(batch, index)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("loss", loss.detach())

    def configure_optimizers(self):
        parts = [*self.encoder.parameters(), *self.decoder.parameters()]
        return torch.optim.Adam(parts, 1e-2), torch.optim.Adam(self.classifier.parameters(), 1e-2)


@pytest.mark.parametrize("model", [Phases(5, freezes=False), Turns(5)])
def test_a_phase_without_a_freeze(model):
    report, phases = fitted(model)
    assert [(item.step, item.joined) for item in phases] == [(5 * 32, 4)]
    assert not {"LD701", "LD702", "LD704", "LD705", "LD713"} & {item.code for item in report.findings}


@pytest.mark.parametrize("model", [Phases(0), Phases(5, freezes=False)])
def test_one_phase_is_not_told(model):
    assert not fitted(model, 2)[1]


class Grows(pl.LightningModule):
    """Predicts two means of its inputs, and from some epoch on the inputs themselves, by layers that waited till then."""

    def __init__(self, first=5, *, frozen=False):
        super().__init__()
        self.few, self.many = nn.Linear(8, 2), nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        self.first, self.frozen = first, frozen

    def on_train_epoch_start(self):
        if self.frozen:
            self.many.requires_grad_(self.current_epoch >= self.first)

    def training_step(self, batch, index):
        inputs = batch[0]
        if self.current_epoch < self.first:
            return nn.functional.mse_loss(self.few(inputs), inputs.unflatten(1, (2, 4)).mean(2))
        return nn.functional.mse_loss(self.many(inputs) + self.few(inputs).repeat(1, 4), inputs)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 2e-2)


@pytest.mark.parametrize(("frozen", "told"), [(False, []), (True, [0])])
def test_a_part_that_waited_is_no_spike(frozen, told):
    """A part that was frozen may have been trained before, and is to begin with gentle steps."""
    report, phases = fitted(Grows(frozen=frozen))
    assert ("LD713" in {item.code for item in report.findings}) is bool(told)
    assert [item.joined for item in phases] == ([] if frozen else [4])
