"""LD409 where forward sets the mode of its model itself."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import ModelInspector
from tests.helpers import trainer


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Sorting(pl.LightningModule):
    """Sorts its samples, as packing does, and sets its own mode in forward."""

    def __init__(self, *, back=True):
        super().__init__()
        self.first, self.dropout, self.second = nn.Linear(8, 16), nn.Dropout(0.3), nn.Linear(16, 2)
        self.back = back

    def forward(self, inputs, evaluate=False):
        self.train(not evaluate)
        order = inputs[:, 0].argsort()
        hidden = self.dropout(self.first(inputs[order]))
        return self.second(hidden[order.argsort()] if self.back else hidden)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0], evaluate=not self.back), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


@pytest.mark.parametrize("back", [True, False])
def test_dropout_of_sorted_samples_is_no_mixing(back):
    torch.manual_seed(0)
    watch = ModelInspector()
    inputs = torch.randn(96, 8)
    data = TensorDataset(inputs, (inputs[:, 0] > 0).long())
    loader, validation = DataLoader(data, batch_size=16, shuffle=True), DataLoader(data, batch_size=16)
    trainer(watch, max_epochs=2).fit(Sorting(back=back), loader, validation)
    assert ("LD409" in {item.code for item in watch.report.findings}) is not back
