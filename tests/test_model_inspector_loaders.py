"""ModelInspector takes loaders and batches for what they are, and says so where it cannot."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import ModelInspector
from tests.helpers import alarms, pl, trainer


class Zipped(DataLoader):
    """A loader of loaders: its data set is the longest of them, and its batches are theirs."""

    def __init__(self, *loaders):
        super().__init__(loaders[0], batch_size=4)  # five batches: one of them "left over"
        self.loaders = loaders

    def __iter__(self):
        return zip(*self.loaders, strict=True)

    def __len__(self):
        return len(self.loaders[0])


class FromTwo(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 2))

    def training_step(self, batch, batch_idx):
        return sum(F.cross_entropy(self.net(inputs), labels) for inputs, labels in batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def test_a_loader_of_loaders_says_nothing_of_its_last_batch():
    inputs = torch.randn(65, 6)
    data = TensorDataset(inputs, (inputs[:, 0] > 0).long())
    watch, loader = ModelInspector(), DataLoader(data, batch_size=13, shuffle=True)
    zipped = Zipped(loader, DataLoader(data, batch_size=13, shuffle=True))
    trainer(watch, max_epochs=2).fit(FromTwo(), zipped)
    assert not alarms(watch.report)


class Rows(FromTwo):
    """As many columns, in a list, as there are samples in a batch."""

    def training_step(self, batch, batch_idx):
        columns, labels = batch
        return F.cross_entropy(self.net(torch.cat(columns, dim=1)), labels)


def test_a_batch_whose_samples_cannot_be_told_is_not_judged():
    watch, inputs = ModelInspector(), torch.randn(48, 6)
    data = [([row[index : index + 1] for index in range(6)], int(row[0] > 0)) for row in inputs]
    trainer(watch, max_epochs=2).fit(Rows(), DataLoader(data, batch_size=6, shuffle=True))
    assert not watch.report.findings, "no LD001 either"
    assert any("as many items as there are samples" in item.reason for item in watch.report.skips)
