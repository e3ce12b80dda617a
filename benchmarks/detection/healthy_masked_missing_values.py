# expect: none
"""NaN where values are missing, masked before they reach the loss."""

import pytorch_lightning as pl
import torch
from torch import nn


class H(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.imp = nn.Parameter(torch.zeros(8))
        self.n = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 4))

    def training_step(self, batch, i):
        x, y = batch
        k = torch.isnan(x)
        x = torch.where(k, self.imp, torch.nan_to_num(x))
        o = self.n(torch.cat([x, k.float()], 1))
        mu, lv = o.chunk(2, 1)
        ok = ~torch.isnan(y)
        loss = nn.functional.gaussian_nll_loss(mu[ok], y[ok], lv[ok].exp())
        self.log("nll", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 2e-3)


x = torch.randn(800, 8)
y = torch.stack([x[:, 0] + x[:, 1], x[:, 2] * 2], 1)
x[torch.rand_like(x) < 0.1] = float("nan")
y[torch.rand_like(y) < 0.2] = float("nan")
pl.Trainer(max_epochs=3, enable_progress_bar=False, logger=False).fit(
    H(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 40, shuffle=True)
)
