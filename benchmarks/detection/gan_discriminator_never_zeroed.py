# expect: LD603
"""A GAN by hand: the discriminator's gradients are never zeroed."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class GAN(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.g = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
        self.d = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        real, (g, d) = batch[0], self.optimizers()
        fake = self.g(torch.randn(len(real), 4))
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        loss_d = F.binary_cross_entropy_with_logits(self.d(real), ones)
        loss_d = loss_d + F.binary_cross_entropy_with_logits(self.d(fake.detach()), zeros)
        if not FAULT:
            d.zero_grad()
        self.manual_backward(loss_d)
        d.step()
        loss_g = F.binary_cross_entropy_with_logits(self.d(fake), ones)
        g.zero_grad()
        self.toggle_optimizer(g)
        self.manual_backward(loss_g)
        g.step()
        self.untoggle_optimizer(g)
        self.log_dict({"loss_d": loss_d, "loss_g": loss_g})

    def configure_optimizers(self):
        return [torch.optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.99)) for net in (self.g, self.d)]


angle = torch.rand(1600) * 6.28
data = TensorDataset(torch.stack([angle.cos(), angle.sin()], 1))
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(GAN(), DataLoader(data, 40, shuffle=True))
