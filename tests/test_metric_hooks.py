"""Metrics that the module's own hooks after batches update, which run after those of callbacks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_debug import MetricAuditor
from tests.helpers import pl, trainer

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # the other stage has reset the same object


class InHooks(pl.LightningModule):
    def __init__(self, shared, reset=False):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.reset = nn.Linear(6, 3), reset
        self.val_metric = MulticlassAccuracy(3)
        self.train_metric = self.val_metric if shared else MulticlassAccuracy(3)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.train_metric.update(self.net(batch[0]), batch[1])
        self.log("train_acc", self.train_metric, on_step=False, on_epoch=True)

    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_batch_start(self, batch, batch_idx, dataloader_idx=0):
        if self.reset and batch_idx == 0:
            self.val_metric.reset()

    def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):
        self.val_metric.update(self.net(batch[0]), batch[1])
        self.log("val_acc", self.val_metric)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(("shared", "reset", "told"), [(True, False, ["LD802"]), (False, False, []), (True, True, [])])
def test_one_object_for_both_stages(shared, reset, told):
    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.randn(96, 6), torch.arange(96) % 3), 16)
    auditor = MetricAuditor()
    held = DataLoader(TensorDataset(torch.randn(160, 6), torch.arange(160) % 3), 16)
    trainer(auditor, max_epochs=3).fit(InHooks(shared, reset), data, held)
    assert [item.code for item in auditor.report.headlines] == told
