# expect: LD411
"""Every weight of a GRU and its head starts at 0.02: all units learn the same."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Sequence(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 32, batch_first=True)
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
        self.apply(self.start)

    def start(self, module):
        if isinstance(module, nn.Linear):
            if FAULT:
                nn.init.constant_(module.weight, 0.02)
            else:
                nn.init.normal_(module.weight, std=0.1)
            nn.init.zeros_(module.bias)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.head(self.rnn(x)[1][-1]), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


x = torch.randn(800, 12, 4)
data = TensorDataset(x, x.mean(1).argmax(1))
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Sequence(), DataLoader(data, 32, shuffle=True))
