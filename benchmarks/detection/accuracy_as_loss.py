# expect: LD109
"""Soft accuracy is minimised, but argmax has no gradient."""

import sys

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Digits(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.net(x)

    def _shared(self, batch, name):
        images, digits = batch
        scores = self(images)
        error = (scores.argmax(dim=1) != digits).float().mean()
        self.log(f"{name}_error", error)
        return error if FAULT else F.cross_entropy(scores, digits)

    def training_step(self, batch, batch_idx):
        return self._shared(batch, "train")

    def validation_step(self, batch, batch_idx):
        self._shared(batch, "val")

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


images, digits = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images / 8.0 - 1).float(), torch.tensor(digits))
train, val = torch.utils.data.random_split(data, [1500, 297])
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Digits(), DataLoader(train, 50, shuffle=True), DataLoader(val, 50))
