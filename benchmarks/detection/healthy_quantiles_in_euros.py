# expect: none
"""Quantile loss on prices of a few euros; three outputs for one target."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Quantiles(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 3))
        self.register_buffer("q", torch.tensor([0.1, 0.5, 0.9]))

    def step(self, batch, stage):
        x, y = batch
        error = y[:, None] - self.net(x)
        loss = torch.maximum(self.q * error, (self.q - 1) * error).mean()
        self.log(f"{stage}_pinball", loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


x = torch.randn(1500, 6) * torch.tensor([1.0, 5.0, 20.0, 1.0, 3.0, 10.0]) + torch.tensor(
    [0.0, 10.0, 50.0, 1.0, 2.0, 5.0]
)
z = (x - x.mean(0)) / x.std(0)
data = TensorDataset(x, 4 + z[:, 0] + 0.8 * z[:, 1] * z[:, 2] + (0.3 + 0.2 * z[:, 3].abs()) * torch.randn(1500))
train, val = torch.utils.data.random_split(data, [1200, 300])
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Quantiles(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
