# expect: none
"""A coupling flow: negative log-likelihood that goes below 0, permutations as buffers, tanh on scales."""

import math

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader


class Coupling(nn.Module):
    def __init__(self, width, order):
        super().__init__()
        self.register_buffer("order", order)
        self.half = width // 2
        self.net = nn.Sequential(nn.Linear(self.half, 48), nn.ReLU(), nn.Linear(48, 2 * (width - self.half)))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        x = x[:, self.order]
        a, b = x[:, : self.half], x[:, self.half :]
        scale, shift = self.net(a).chunk(2, 1)
        scale = torch.tanh(scale)
        return torch.cat([a, b * scale.exp() + shift], 1), scale.sum(1)


class Flow(pl.LightningModule):
    def __init__(self, width=4):
        super().__init__()
        self.layers = nn.ModuleList([Coupling(width, torch.arange(width).roll(1)) for _ in range(6)])

    def nll(self, x):
        total = 0
        for layer in self.layers:
            x, logdet = layer(x)
            total = total + logdet
        return (0.5 * x.square() + 0.5 * math.log(2 * math.pi)).sum(1).mean() - total.mean()

    def training_step(self, batch, batch_idx):
        loss = self.nll(batch)
        self.log("nll", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("nll_validation", self.nll(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-3)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "nll_validation"}}


z = torch.randn(2000, 2)
x = torch.stack([z[:, 0], z[:, 1], z[:, 0] * z[:, 1], z[:, 0].square() - 1], 1) + 0.05 * torch.randn(2000, 4)
x = (x - x.mean(0)) / x.std(0)
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Flow(), DataLoader(x[:1600], 50, shuffle=True), DataLoader(x[1600:], 100))
