# expect: LD503
"""Samples of four machines, one after the other, read by a SequentialSampler."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 4))

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


machine = torch.arange(4).repeat_interleave(300)
x = torch.randn(4, 10)[machine] + 0.8 * torch.randn(1200, 10)
rows = torch.randperm(1200)[:200]
rest = torch.tensor(sorted(set(range(1200)) - set(rows.tolist())))
train, val = TensorDataset(x[rest], machine[rest]), TensorDataset(x[rows], machine[rows])
sampler = SequentialSampler(train) if FAULT else RandomSampler(train)
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 25, sampler=sampler), DataLoader(val, 50))
