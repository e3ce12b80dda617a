# expect: LD202
"""Scores of (batch, time, classes): log_softmax over dimension 1 is over time."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Phones(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 24, bidirectional=True, batch_first=True)
        self.out = nn.Linear(48, 5)
        self.nll = nn.NLLLoss()

    def forward(self, frames):
        h, _ = self.rnn(frames)
        return F.log_softmax(self.out(h), dim=1 if FAULT else -1)

    def training_step(self, batch, batch_idx):
        frames, phones = batch
        loss = self.nll(self(frames).reshape(-1, 5), phones.reshape(-1))
        self.log("train/nll", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        frames, phones = batch
        scores = self(frames)
        self.log("val/nll", self.nll(scores.reshape(-1, 5), phones.reshape(-1)))
        self.log("val/acc", (scores.argmax(-1) == phones).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


phones = torch.randint(0, 5, (700, 6)).repeat_interleave(3, 1)
frames = torch.randn(5, 8)[phones] + 0.7 * torch.randn(700, 18, 8)
train, val = TensorDataset(frames[:600], phones[:600]), TensorDataset(frames[600:], phones[600:])
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Phones(), DataLoader(train, 25, shuffle=True), DataLoader(val, 25))
