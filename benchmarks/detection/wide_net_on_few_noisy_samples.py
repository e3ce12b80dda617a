# expect: LD707
"""A wide network learns 120 samples, a fifth of them labelled wrongly, by heart."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv
COUNT = 120 if FAULT else 4000


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        width = 256 if FAULT else 16
        self.net = nn.Sequential(
            nn.Linear(20, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


x = torch.randn(COUNT + 400, 20)
y = (x[:, 0] + x[:, 1] - x[:, 2] > 0).long()
flip = torch.rand(len(y)) < 0.2
y = torch.where(flip & (torch.arange(len(y)) < COUNT), 1 - y, y) if FAULT else y
train, val = TensorDataset(x[:COUNT], y[:COUNT]), TensorDataset(x[COUNT:], y[COUNT:])
trainer = pl.Trainer(max_epochs=30 if FAULT else 6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 20 if FAULT else 64, shuffle=True), DataLoader(val, 100))
