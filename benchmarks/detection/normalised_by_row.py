# expect: LD502
"""Each patient is standardised over the columns, instead of each column over the patients."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 48), nn.ReLU(), nn.Linear(48, 3))

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


x, y = load_wine(return_X_y=True)
axis = 1 if FAULT else 0
x = (x - x.mean(axis, keepdims=True)) / x.std(axis, keepdims=True)
data = TensorDataset(torch.tensor(x).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [140, 38])
trainer = pl.Trainer(max_epochs=15, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 14, shuffle=True), DataLoader(val, 38))
