# expect: none
"""Denoising diffusion of two moons: the targets are noise, the loss ends near a high floor."""

import lightning.pytorch as pl
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Diffusion(pl.LightningModule):
    def __init__(self, steps=50):
        super().__init__()
        self.register_buffer("alphas", torch.cumprod(1 - torch.linspace(1e-3, 0.12, steps), 0))
        self.time = nn.Embedding(steps, 16)
        self.net = nn.Sequential(nn.Linear(18, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))

    def forward(self, x, t):
        return self.net(torch.cat([x, self.time(t)], -1))

    def step(self, batch):
        (x,) = batch
        t = torch.randint(0, len(self.alphas), (len(x),), device=x.device)
        noise = torch.randn_like(x)
        alpha = self.alphas[t][:, None]
        noisy = alpha.sqrt() * x + (1 - alpha).sqrt() * noise
        return (self(noisy, t) - noise).square().mean()

    def training_step(self, batch, batch_idx):
        loss = self.step(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


x = torch.tensor(make_moons(2000, noise=0.05)[0]).float()
x = (x - x.mean(0)) / x.std(0)
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(
    Diffusion(), DataLoader(TensorDataset(x[:1600]), 64, shuffle=True), DataLoader(TensorDataset(x[1600:]), 100)
)
