# expect: LD803
"""The validation accuracy is the plain mean of batches; the last one holds 4 of 204 samples."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
        self.right = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        scores = self.net(x)
        right = (scores.argmax(1) == y).float()
        self.right.append(right.mean()[None] if FAULT else right)
        self.log("val_loss", F.cross_entropy(scores, y))

    def on_validation_epoch_end(self):
        self.log("val_acc", torch.cat(self.right).mean())
        self.right.clear()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x = torch.randn(1004, 8)
y = (x[:, :3] + 0.6 * torch.randn(1004, 3)).argmax(1)
train, val = TensorDataset(x[:800], y[:800]), TensorDataset(x[800:], y[800:])
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
