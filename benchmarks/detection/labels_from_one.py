# expect: LD106
"""Wine quality classes 1, 2, 3 into three scores."""

import sys
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Sample(NamedTuple):
    x: Tensor
    label: int
    weight: None = None


class Wine(Dataset):
    def __init__(self):
        bunch = load_wine()
        x = torch.tensor(bunch.data, dtype=torch.float32)
        self.x = (x - x.mean(0)) / x.std(0)
        self.y = bunch.target + (1 if FAULT else 0)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return Sample(self.x[index], int(self.y[index]))


def collate(samples):
    return Sample(torch.stack([s.x for s in samples]), torch.tensor([s.label for s in samples]))


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(13, 24), nn.Tanh(), nn.Linear(24, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.layers(batch.x), batch.label)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


trainer = pl.Trainer(max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Classifier(), DataLoader(Wine(), 16, shuffle=True, collate_fn=collate))
