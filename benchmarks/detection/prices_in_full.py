# expect: LD519
"""House prices around 300 000 are the target of a network whose outputs begin around 0."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Prices(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def training_step(self, batch, batch_idx):
        x, price = batch
        loss = F.mse_loss(self.net(x).squeeze(-1), price)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, price = batch
        out = self.net(x).squeeze(-1)
        self.log("val_loss", F.mse_loss(out, price))
        self.log("val_mae", (out - price).abs().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


x = torch.randn(1200, 8)
price = 300_000 + 60_000 * (x[:, 0] + 0.5 * x[:, 1] * x[:, 2]) + 5_000 * torch.randn(1200)
if not FAULT:
    price = (price - price.mean()) / price.std()
train, val = TensorDataset(x[:960], price[:960]), TensorDataset(x[960:], price[960:])
trainer = pl.Trainer(max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Prices(), DataLoader(train, 32, shuffle=True), DataLoader(val, 60))
