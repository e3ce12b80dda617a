"""A stream that is read once: what a net does not know after many steps counts as after several epochs."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from lightning_debug.callbacks.data_auditor import DataAuditor
from tests.helpers import trainer


class Strips(IterableDataset):
    """Strips of signs, and how many neighbours are alike: no column and no neighbour tells, a convolution does."""

    def __init__(self, count, seed, moved=0):
        self.count, self.seed, self.moved = count, seed, moved

    def __iter__(self):
        draw = torch.Generator().manual_seed(self.seed)
        strips = torch.randint(0, 2, (self.count, 1, 48), generator=draw).float() * 2 - 1
        alike = (strips[:, 0, 1:] * strips[:, 0, :-1]).sum(1) / 7
        yield from zip(strips, alike.roll(self.moved), strict=True)


class Counter(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.signs, self.head = nn.Conv1d(1, 16, 2), nn.Linear(16, 1)

    def forward(self, strips):
        return 7 * self.head(self.signs(strips).relu().mean(2)).squeeze(1)

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def codes_after(batches, moved):
    pl.seed_everything(0, verbose=False)
    auditor = DataAuditor()
    data = DataLoader(Strips(16 * batches, 1, moved), 16), DataLoader(Strips(300, 2, moved), 50)
    trainer(auditor, max_epochs=1).fit(Counter(), *data)
    return [item.code for item in auditor.report.findings if item.code == "LD505"]


@pytest.mark.parametrize("moved", [0, 1])
def test_one_epoch_of_many_batches_is_enough(moved):
    assert codes_after(500, moved) == ["LD505"] * moved


def test_one_epoch_of_few_batches_is_not():
    assert codes_after(100, 1) == []
