# expect: LD607
"""Manual accumulation over four batches, but the gradients are zeroed for every batch."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self, accumulate=4):
        super().__init__()
        self.automatic_optimization = False
        self.accumulate = accumulate
        self.net = nn.Sequential(
            nn.Conv1d(2, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, 3)
        )

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        x, y = batch
        last = (batch_idx + 1) % self.accumulate == 0
        if FAULT or batch_idx % self.accumulate == 0:
            optimizer.zero_grad()
        loss = F.cross_entropy(self.net(x), y)
        self.manual_backward(loss / self.accumulate)
        if last:
            optimizer.step()
        self.log("train_loss", loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


y = torch.randint(0, 3, (960,))
time = torch.linspace(0, 6.28, 32)
x = torch.sin(time * (y[:, None, None] + 1) + torch.rand(960, 2, 1) * 6.28) + 0.3 * torch.randn(960, 2, 32)
trainer = pl.Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(TensorDataset(x, y), 12, shuffle=True))
