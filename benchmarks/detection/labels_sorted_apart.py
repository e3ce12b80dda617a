# expect: LD505
"""The labels were sorted on the way, the rows were not."""

import sys

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 4))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        scores = self.net(x)
        self.log("val_loss", F.cross_entropy(scores, y))
        self.log("val_f1", (scores.argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x, y = make_classification(1600, 12, n_informative=8, n_classes=4, class_sep=1.5)
if FAULT:
    y = np.sort(y)
data = TensorDataset(torch.tensor((x - x.mean(0)) / x.std(0)).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1280, 320])
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 32, shuffle=True), DataLoader(val, 64))
