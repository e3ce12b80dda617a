"""NonFiniteGuard in validation: the field of a batch that makes the validation loss bad is named, and no other."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import NonFiniteGuard
from tests.helpers import trainer


class Regressor(pl.LightningModule):
    def __init__(self, masked):
        super().__init__()
        self.net, self.masked = nn.Linear(4, 1), masked

    def loss(self, batch):
        inputs, targets = batch
        known = targets.isfinite() if self.masked else slice(None)
        return F.mse_loss(self.net(inputs)[known], targets[known])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))
        self.log("val_spread", (batch[1] - batch[1].mean()).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def fitted(where, *, masked):
    torch.manual_seed(0)
    inputs = torch.randn(96, 4)
    targets = inputs[:, :1] - inputs[:, 1:2]
    tensors = [inputs, targets]
    if where is not None:
        tensors[where][70, 0] = float("nan")
    data = TensorDataset(*tensors)
    guard = NonFiniteGuard()
    train, val = (torch.utils.data.Subset(data, part) for part in (range(64), range(64, 96)))
    trainer(guard, max_epochs=3).fit(Regressor(masked), DataLoader(train, 16, shuffle=True), DataLoader(val, 16))
    return guard.report.headlines


@pytest.mark.parametrize("where", [0, 1])
def test_a_field_that_makes_the_validation_loss_bad_is_named(where):
    (found,) = fitted(where, masked=False)
    assert (found.code, found.subject, found.at.stage, found.at.epoch) == ("LD301", f"batch[{where}]", "validate", 1)
    assert "(row 6" in found.message
    assert "and the validation loss is NaN; with finite values there, it is finite." in found.message


@pytest.mark.parametrize("where", [1, None])
def test_what_the_loss_masks_is_not_named(where):
    assert not fitted(where, masked=True), "val_spread is NaN, but no loss"
