# expect: none
"""Temperatures in degrees: the network scales its own inputs and outputs, so that 15 +- 8 is no trouble."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanAbsoluteError


class Weather(pl.LightningModule):
    def __init__(self, x, y):
        super().__init__()
        self.register_buffer("x_mean", x.mean(0))
        self.register_buffer("x_std", x.std(0))
        self.register_buffer("y_mean", y.mean())
        self.register_buffer("y_std", y.std())
        self.net = nn.Sequential(nn.Linear(5, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
        self.mae = MeanAbsoluteError()

    def forward(self, x):
        return self.net((x - self.x_mean) / self.x_std).squeeze(1) * self.y_std + self.y_mean

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss((self(x) - self.y_mean) / self.y_std, (y - self.y_mean) / self.y_std)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        out = self(x)
        self.mae(out, y)
        self.log("val_loss", F.mse_loss(out, y))
        self.log("val_mae", self.mae)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


z = torch.randn(1500, 5)
scale = torch.tensor([1.0, 10.0, 100.0, 5.0, 1000.0])
x = z * scale + torch.tensor([15.0, 60.0, 1013.0, 3.0, 500.0])
y = 15 + 6 * z[:, 0] + 4 * z[:, 1] * z[:, 2] + 2 * torch.randn(1500)
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
train, val = TensorDataset(x[:1200], y[:1200]), TensorDataset(x[1200:], y[1200:])
trainer.fit(Weather(x[:1200], y[:1200]), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
