# expect: LD409
"""A TransformerEncoder without batch_first gets (batch, time, width): it attends over the samples of the batch."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class SeriesClassifier(pl.LightningModule):
    def __init__(self, width=32):
        super().__init__()
        self.project = nn.Linear(3, width)
        self.place = nn.Parameter(torch.randn(1, 20, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, dim_feedforward=64, dropout=0.1, batch_first=not FAULT)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.encoder(self.project(x) + self.place).mean(dim=1))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


label = torch.randint(0, 3, (1000,))
time = torch.arange(20) / 20 * 6.28
phase = torch.rand(1000, 1, 3)
x = torch.sin(time[None, :, None] * (label[:, None, None] + 1) + phase) + 0.2 * torch.randn(1000, 20, 3)
train, val = TensorDataset(x[:800], label[:800]), TensorDataset(x[800:], label[800:])
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(SeriesClassifier(), DataLoader(train, 25, shuffle=True), DataLoader(val, 50))
