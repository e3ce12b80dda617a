# expect: none
"""Ratings as numbers, on purpose."""

import pytorch_lightning as pl
import torch
from torch import nn


class Rate(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.u = nn.Embedding(50, 8)
        self.m = nn.Embedding(60, 8)
        self.b = nn.Parameter(torch.tensor(3.0))

    def training_step(self, batch, i):
        p = self.b + (self.u(batch["user"]) * self.m(batch["item"])).sum(1)
        loss = nn.functional.mse_loss(p, batch["stars"].float())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, i):
        p = self.b + (self.u(batch["user"]) * self.m(batch["item"])).sum(1)
        self.log("val_rmse", nn.functional.mse_loss(p, batch["stars"].float()).sqrt())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2, weight_decay=1e-3)


torch.manual_seed(0)
U, M = torch.randn(50, 3), torch.randn(60, 3)
n = 3000
u, m = torch.randint(0, 50, (n,)), torch.randint(0, 60, (n,))
r = (3 + (U[u] * M[m]).sum(1)).round().clamp(1, 5).long()
ds = [{"user": a, "item": batch, "stars": c} for a, batch, c in zip(u, m, r, strict=False)]
pl.Trainer(max_epochs=3, enable_progress_bar=False, logger=False).fit(
    Rate(), torch.utils.data.DataLoader(ds[:2500], 100, shuffle=True), torch.utils.data.DataLoader(ds[2500:], 100)
)
