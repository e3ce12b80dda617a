# expect: none
"""A convolution over the past only."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def fit(m, *loaders, epochs=4, **k):
    pl.Trainer(
        max_epochs=epochs, enable_progress_bar=False, logger=False, enable_checkpointing=False, accelerator="cpu", **k
    ).fit(m, *loaders)


t = torch.arange(0, 400, 0.1)
self = (t.sin() + 0.5 * (2.7 * t).sin() + 0.1 * torch.randn(len(t))).unsqueeze(1)
win = torch.stack([self[i : i + 33] for i in range(0, 3900, 5)]).transpose(1, 2)


class Causal(nn.Conv1d):
    def forward(self, x):
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class TCN(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.n = nn.Sequential(
            Causal(1, 24, 3),
            nn.ReLU(),
            Causal(24, 24, 3, dilation=2),
            nn.ReLU(),
            Causal(24, 24, 3, dilation=4),
            nn.ReLU(),
            nn.Conv1d(24, 1, 1),
        )

    def training_step(self, batch, i):
        (w,) = batch
        loss = F.mse_loss(self.n(w[..., :-1]), w[..., 1:])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, i):
        (w,) = batch
        self.log("val_loss", F.mse_loss(self.n(w[..., :-1]), w[..., 1:]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


fit(TCN(), DataLoader(TensorDataset(win[:600]), 32, shuffle=True), DataLoader(TensorDataset(win[600:]), 32))
