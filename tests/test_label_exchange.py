"""What a net knows of labels, asked of a loss that is written by hand."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug.callbacks.data_auditor import DataAuditor
from lightning_debug.evidence import Unavailable
from lightning_debug.evidence.data_relations import LabelLearning
from lightning_debug.finding import Claim
from lightning_debug.rules.ld505_labels_misaligned import labels_misaligned
from tests.helpers import trainer


class ByHand(pl.LightningModule):
    inputs = 8

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(self.inputs, 16), nn.ReLU(), nn.Linear(16, 4))

    def loss(self, inputs, labels):
        return -F.log_softmax(self.net(inputs), 1).gather(1, labels[:, None]).mean()

    def training_step(self, batch, batch_idx):
        return self.loss(*batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(*batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


class Untested(ByHand):
    validation_step = pl.LightningModule.validation_step


class Margin(ByHand):
    def loss(self, inputs, labels):
        scores = self.net(inputs)
        right = scores[torch.arange(len(labels)), labels][:, None]
        return (1 + scores - right).clamp_min(0).sum(1).mean()


class Weighted(ByHand):
    """The whole numbers are weights of the samples."""

    def loss(self, inputs, labels):
        return ((self.net(inputs) - inputs[:, :4]).square().sum(1) * (1 + labels)).sum() / (1 + labels).sum()


class Given(ByHand):
    """The net is given them, as noise levels are."""

    inputs = 9

    def loss(self, inputs, labels):
        noisy = inputs + torch.randn_like(inputs) * labels[:, None] / 4
        return (self.net(torch.cat([noisy, labels[:, None].float()], 1)) - inputs[:, :4]).square().mean()


def _claims(kind, *, epochs=4):
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (400,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(400, 8)
    labels = labels[torch.randperm(400)]
    train, held_out = TensorDataset(inputs[:280], labels[:280]), TensorDataset(inputs[280:], labels[280:])
    auditor = DataAuditor()
    trainer(auditor, max_epochs=epochs).fit(kind(), DataLoader(train, 14, shuffle=True), DataLoader(held_out, 20))
    record = auditor.session.record
    return [item for item in labels_misaligned(record) if isinstance(item, Claim)], record


@pytest.mark.parametrize("kind", [ByHand, pytest.param(Margin, marks=pytest.mark.slow)])
def test_a_loss_made_by_hand_tells_that_labels_are_strangers(kind):
    (claim,), record = _claims(kind)
    learned = record.last(LabelLearning)
    assert learned.by_loss
    assert learned.p_value > 0.05
    assert learned.held_out
    assert "no lower with their own labels" in claim.message


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "reason"), [(Weighted, "weigh"), (Given, "a layer is given")])
def test_what_is_no_target_is_not_asked_about(kind, reason):
    claims, record = _claims(kind)
    assert not claims
    assert any(reason in item.reason for item in record.of(Unavailable) if item.evidence == "LabelLearning")


@pytest.mark.slow
def test_a_net_that_has_learned_strange_labels_by_heart_knows_them():
    torch.manual_seed(0)
    inputs, labels = torch.randn(240, 8), torch.randint(0, 4, (240,))
    auditor, model = DataAuditor(), Untested()
    model.net = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 4))
    trainer(auditor, max_epochs=60).fit(model, DataLoader(TensorDataset(inputs, labels), 20, shuffle=True))
    learned = auditor.session.record.last(LabelLearning)
    assert learned.p_value <= 0.05
    assert not [item for item in labels_misaligned(auditor.session.record) if isinstance(item, Claim)]
