# expect: LD802
"""One torchmetrics object counts training and validation batches alike."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Accuracy

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 5))
        self.accuracy = Accuracy(task="multiclass", num_classes=5)
        self.val_accuracy = self.accuracy if FAULT else Accuracy(task="multiclass", num_classes=5)

    def training_step(self, batch, batch_idx):
        x, y = batch
        scores = self.net(x)
        self.accuracy(scores, y)
        loss = F.cross_entropy(scores, y)
        self.log("train_loss", loss)
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        scores = self.net(x)
        self.val_accuracy(scores, y)
        self.log("val_loss", F.cross_entropy(scores, y))
        self.log("val_acc", self.val_accuracy, on_step=False, on_epoch=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x = torch.randn(1200, 10)
y = x[:, :5].argmax(1)
train, val = TensorDataset(x[:1000], y[:1000]), TensorDataset(x[1000:], y[1000:])
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 40, shuffle=True), DataLoader(val, 50))
