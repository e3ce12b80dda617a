# expect: LD412
"""A multi-layer perceptron without activations."""

import itertools
import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Moons(pl.LightningModule):
    def __init__(self, sizes=(2, 32, 32, 2)):
        super().__init__()
        layers = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers.append(nn.Linear(inputs, outputs))
            if not FAULT and outputs != sizes[-1]:
                layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.layers(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        scores = self.layers(x)
        self.log("val_loss", F.cross_entropy(scores, y))
        self.log("val_acc", (scores.argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


x, y = make_moons(1000, noise=0.15)
x = torch.tensor((x - x.mean(0)) / x.std(0)).float()
data = TensorDataset(x, torch.tensor(y))
train, val = torch.utils.data.random_split(data, [800, 200])
trainer = pl.Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Moons(), DataLoader(train, 25, shuffle=True), DataLoader(val, 50))
