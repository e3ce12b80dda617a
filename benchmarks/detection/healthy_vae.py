# expect: none
"""A variational autoencoder: a sum of two losses that no network brings to 0."""

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class VAE(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.mu = nn.Linear(64, 4)
        self.lv = nn.Linear(64, 4)
        self.dec = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64))

    def step(self, x):
        h = self.enc(x)
        mu, lv = self.mu(h), self.lv(h)
        z = mu + torch.randn_like(mu) * (lv / 2).exp()
        r = self.dec(z)
        rec = F.binary_cross_entropy_with_logits(r, x, reduction="none").sum(-1)
        kl = -0.5 * (1 + lv - mu**2 - lv.exp()).sum(-1)
        return rec.mean(), kl.mean()

    def training_step(self, batch, i):
        rec, kl = self.step(batch[0])
        beta = min(1.0, self.global_step / 50)
        self.log_dict({"rec": rec, "kl": kl})
        return rec + beta * kl

    def validation_step(self, batch, i):
        rec, kl = self.step(batch[0])
        self.log("elbo_validation", rec + kl)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 2e-3)


d = torch.tensor(load_digits().data / 16, dtype=torch.float32)
d = d[torch.randperm(len(d))]
tr = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(d[:1400]), 64, shuffle=True)
va = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(d[1400:]), 64)
L.Trainer(max_epochs=4, enable_progress_bar=False).fit(VAE(), tr, va)
