# expect: LD206
"""A GRU forecasts one value, (batch, 1); the target is (batch,)."""

import sys

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Windows(Dataset):
    def __init__(self, series, length=24):
        self.series, self.length = torch.as_tensor(series, dtype=torch.float32), length

    def __len__(self):
        return len(self.series) - self.length

    def __getitem__(self, index):
        return self.series[index : index + self.length, None], self.series[index + self.length]


class Forecaster(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.save_hyperparameters()
        self.gru = nn.GRU(1, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)
        self.criterion = nn.MSELoss()

    def forward(self, x):
        _, last = self.gru(x)
        out = self.fc(last[-1])
        return out if FAULT else out[:, 0]

    def training_step(self, batch, _):
        x, y = batch
        loss = self.criterion(self(x), y)
        self.log("train_mse", loss)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val_mse", self.criterion(self(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


time = np.arange(1400)
noise = np.random.default_rng(3).normal(0, 0.1, len(time))
series = np.sin(time / 7) + 0.5 * np.sin(time / 3.1) + noise
train = DataLoader(Windows(series[:1000]), 32, shuffle=True)
val = DataLoader(Windows(series[1000:]), 32)
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Forecaster(), train, val)
