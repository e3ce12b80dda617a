# expect: LD504
"""Batches are made class by class, as a sampler for speed did."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


class ByClass(Sampler):
    def __init__(self, labels, size=30):
        self.labels, self.size = labels, size

    def __iter__(self):
        batches = []
        for label in self.labels.unique():
            rows = (self.labels == label).nonzero().flatten()
            batches += list(rows[torch.randperm(len(rows))].split(self.size))
        return iter([batches[i].tolist() for i in torch.randperm(len(batches))])

    def __len__(self):
        return sum(-(-int((self.labels == label).sum()) // self.size) for label in self.labels.unique())


x, y = load_digits(return_X_y=True)
x, y = torch.tensor((x - 5) / 6).float(), torch.tensor(y)
order = torch.randperm(len(x))
x, y = x[order], y[order]
train, val = TensorDataset(x[:1400], y[:1400]), TensorDataset(x[1400:], y[1400:])
batches = {"batch_sampler": ByClass(y[:1400])} if FAULT else {"batch_size": 30, "shuffle": True}
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, **batches), DataLoader(val, 100))
