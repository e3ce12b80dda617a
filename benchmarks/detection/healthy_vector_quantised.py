# expect: none
"""A codebook with straight-through gradients: rounding, detached terms, codes that are used by none."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class VQ(pl.LightningModule):
    def __init__(self, codes=16, width=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, width))
        self.decoder = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64))
        self.codebook = nn.Embedding(codes, width)
        nn.init.uniform_(self.codebook.weight, -0.2, 0.2)

    def step(self, x):
        z = self.encoder(x)
        nearest = torch.cdist(z, self.codebook.weight).argmin(1)
        q = self.codebook(nearest)
        out = self.decoder(z + (q - z).detach())
        return F.mse_loss(out, x) + F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())

    def training_step(self, batch, batch_idx):
        loss = self.step(batch)
        self.log("train_vq", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_vq", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x = torch.tensor((load_digits().data - 5) / 6).float()
x = x[torch.randperm(len(x))]
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(VQ(), DataLoader(x[:1440], 48, shuffle=True), DataLoader(x[1440:], 119))
