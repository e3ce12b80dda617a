# expect: LD608
"""A Gaussian likelihood is minimised instead of its negative."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.distributions import Normal
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Density(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 32), nn.Tanh())
        self.mean, self.scale = nn.Linear(32, 1), nn.Linear(32, 1)

    def forward(self, x):
        h = self.trunk(x)
        return Normal(self.mean(h), nn.functional.softplus(self.scale(h)) + 0.05)

    def training_step(self, batch, batch_idx):
        x, y = batch
        likelihood = self(x).log_prob(y[:, None]).mean()
        loss = likelihood if FAULT else -likelihood
        self.log("nll", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


x, y = load_diabetes(return_X_y=True)
data = TensorDataset(torch.tensor(x / x.std(0)).float(), torch.tensor((y - y.mean()) / y.std()).float())
trainer = pl.Trainer(max_epochs=15, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Density(), DataLoader(data, 34, shuffle=True))
