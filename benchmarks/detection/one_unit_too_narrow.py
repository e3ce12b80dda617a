# expect: LD705
"""A bottleneck of one unit for ten digits."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        narrow = 1 if FAULT else 32
        self.down = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, narrow), nn.Tanh())
        self.up = nn.Linear(narrow, 10)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.up(self.down(batch[0])), batch[1])
        self.log("train/loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.up(self.down(batch[0]))
        self.log("val/loss", F.cross_entropy(scores, batch[1]))
        self.log("val/acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor((x - 5) / 6).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(max_epochs=15, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 64, shuffle=True), DataLoader(val, 100))
