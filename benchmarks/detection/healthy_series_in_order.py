# expect: none
"""Forecasting with windows in the order of time, on purpose, in double precision, validated on later windows."""

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Linear(pl.LightningModule):
    """Trend and remainder, each forecast by a linear layer."""

    def __init__(self, past=36, future=6):
        super().__init__()
        self.trend, self.rest = nn.Linear(past, future), nn.Linear(past, future)
        self.smooth = nn.AvgPool1d(5, stride=1, padding=2, count_include_pad=False)

    def forward(self, x):
        trend = self.smooth(x[:, None])[:, 0]
        return self.trend(trend) + self.rest(x - trend)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = (self(x) - y).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("valid_loss", (self(x) - y).square().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


rng = np.random.default_rng(5)
t = np.arange(1500)
series = np.sin(t / 6) + 0.4 * np.cos(t / 2.3) + np.cumsum(rng.normal(0, 0.01, len(t))) + rng.normal(0, 0.1, len(t))
series = torch.tensor((series - series[:1200].mean()) / series[:1200].std())
windows = series.unfold(0, 42, 1)
train, val = windows[:1158], windows[1200:]
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False, precision="64-true")
trainer.fit(
    Linear(),
    DataLoader(TensorDataset(train[:, :36], train[:, 36:]), 32),
    DataLoader(TensorDataset(val[:, :36], val[:, 36:]), 64),
)
