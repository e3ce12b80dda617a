"""Validation targets that are not those of training: LD516 on other numbers for the classes, LD515 on other units."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers import codes, debugged, pl


class Classifier(pl.LightningModule):
    """Six classes; every call of a step by its loss alone."""

    def __init__(self, outputs=6):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, outputs))

    def loss(self, batch, stage):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        return self.loss(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch, "val"))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def classes(renamed):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 6, (720,), generator=generator)
    inputs = 2 * torch.randn(6, 6, generator=generator)[labels] + 0.5 * torch.randn(720, 6, generator=generator)
    given = torch.tensor(renamed)[labels[480:]]
    return (
        DataLoader(TensorDataset(inputs[:480], labels[:480]), 24, shuffle=True),
        DataLoader(TensorDataset(inputs[480:], given), 60),
    )


@pytest.mark.parametrize(
    ("renamed", "told"),
    [([2, 0, 5, 1, 3, 4], True), ([0, 1, 2, 4, 5, 3], True), ([0, 1, 2, 3, 4, 5], False), ([1, 0, 2, 3, 4, 5], False)],
    ids=["all", "three", "none", "two that are taken for each other"],
)
def test_classes_of_other_numbers(renamed, told):
    pl.seed_everything(0, verbose=False)
    report = debugged(Classifier(), *classes(renamed), max_epochs=5)
    found = [item for item in report.findings if item.code == "LD516"]
    assert bool(found) is told
    if told:
        assert "numbers its classes otherwise" in found[0].message
        assert "LD706" not in [item.code for item in report.headlines]


class Regressor(Classifier):
    """Targets as they come, or predictions brought back to the units of the targets in validation."""

    def __init__(self, back):
        super().__init__(1)
        self.back = back

    def loss(self, batch, stage):
        values = self.net(batch[0]).squeeze(1)
        if stage == "val" and self.back is not None:
            values = values * self.back[0] + self.back[1]
        return F.l1_loss(values, batch[1])


@pytest.mark.parametrize(
    ("factor", "offset", "back", "told"),
    [
        (24.0, 0.0, None, True),
        (30.0, 200.0, None, True),
        (30.0, 200.0, (30.0, 200.0), False),
        (1.0, 0.0, None, False),
        (1.6, 0.5, None, False),
    ],
    ids=["pixels", "not standardised", "brought back", "alike", "drifted"],
)
def test_targets_in_other_units(factor, offset, back, told):
    pl.seed_everything(0, verbose=False)
    inputs = torch.randn(720, 6)
    targets = (inputs[:, 0] - inputs[:, 1] + 0.1 * torch.randn(720)) / 2**0.5
    train = DataLoader(TensorDataset(inputs[:480], targets[:480]), 24, shuffle=True)
    val = DataLoader(TensorDataset(inputs[480:], factor * targets[480:] + offset), 60)
    report = debugged(Regressor(back), train, val, max_epochs=6)
    assert ("LD515" in codes(report)) is told
