# expect: none
"""Experts of which some get no sample in a batch."""

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


x = torch.randn(1200, 12)
y = (x[:, :3].prod(1) + x[:, 3].abs()).float()


class Moe(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(12, 4)
        self.ex = nn.ModuleList([nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 8)) for _ in range(4)])
        self.glu = nn.Linear(8, 16)
        self.o = nn.Linear(8, 1)

    def forward(self, x):
        w, k = self.gate(x).softmax(-1).topk(2, -1)
        e = torch.stack([m(x) for m in self.ex], 1)
        h = (e.gather(1, k[..., None].expand(-1, -1, 8)) * w[..., None]).sum(1)
        return self.o(torch.relu(F.glu(self.glu(h), -1))).squeeze(-1)

    def training_step(self, batch, i):
        loss = F.mse_loss(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, i):
        self.log("val_loss", F.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 2e-3)


fit(
    Moe(),
    DataLoader(TensorDataset(x[:1000], y[:1000]), 40, shuffle=True),
    DataLoader(TensorDataset(x[1000:], y[1000:]), 40),
    epochs=5,
)
