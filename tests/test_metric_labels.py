"""Labels beyond a metric's classes, which only the table of its counts refuses."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from lightning_debug import Debugger
from tests.helpers import trainer


class Measured(pl.LightningModule):
    def __init__(self, metric):
        super().__init__()
        self.net, self.metric = nn.Linear(6, 5), metric

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_score", self.metric(self.net(batch[0]), batch[1]).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("make", [MulticlassAccuracy, MulticlassConfusionMatrix])
def test_labels_that_begin_at_one_are_named(make):
    data = DataLoader(TensorDataset(torch.randn(40, 6), 1 + torch.arange(40) % 5), 20)
    debugger = Debugger(console=False)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        trainer(debugger, max_epochs=1, num_sanity_val_steps=1).fit(Measured(make(5, validate_args=False)), data, data)
    [found] = debugger.report.headlines
    assert (found.code, found.measured["largest"], found.measured["classes"]) == ("LD106", 5, 5)
