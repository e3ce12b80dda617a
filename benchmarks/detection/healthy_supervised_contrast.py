# expect: none
"""Supervised contrast within the batch."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def fit(m, *loaders, epochs=4, **k):
    pl.Trainer(
        max_epochs=epochs, enable_progress_bar=False, logger=False, enable_checkpointing=False, accelerator="cpu", **k
    ).fit(m, *loaders)


d = load_digits()
x = torch.tensor(d.data / 8.0 - 1, dtype=torch.float32)
y = torch.tensor(d.target)


class SupConLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.t = nn.Parameter(torch.tensor(0.1))

    def forward(self, z, y):
        sim = z @ z.T / self.t.clamp(0.05)
        me = torch.eye(len(z), dtype=torch.bool)
        sim = sim.masked_fill(me, -1e9)
        lp = sim - sim.logsumexp(1, keepdim=True)
        pos = (y[:, None] == y[None]) & ~me
        return -(lp * pos).sum(1).div(pos.sum(1).clamp(min=1)).mean()


class M(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.proj = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))
        self.crit = SupConLoss()

    def training_step(self, batch, i):
        loss = self.crit(F.normalize(self.proj(self.enc(batch[0])), dim=1), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3)


fit(M(), DataLoader(TensorDataset(x, y), 128, shuffle=True, drop_last=True), epochs=3)
