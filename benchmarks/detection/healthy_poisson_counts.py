# expect: none
"""Counts up to fifty with a log link: large losses, targets that are not normalised, by design."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Counts(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Linear(32, 1))
        nn.init.constant_(self.net[-1].bias, 2.5)

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, batch_idx):
        loss = F.poisson_nll_loss(self(batch[0]), batch[1], log_input=True)
        self.log("train_nll", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        rate = self(batch[0])
        self.log("val_nll", F.poisson_nll_loss(rate, batch[1]))
        self.log("val_mae", (rate.exp() - batch[1]).abs().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


x = torch.randn(1500, 6)
data = TensorDataset(x, torch.poisson((2.3 + 0.5 * x[:, 0] - 0.4 * x[:, 1] * x[:, 2]).clamp(max=4).exp()))
train, val = torch.utils.data.random_split(data, [1200, 300])
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Counts(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
