# expect: LD302
"""Sequences of length 0 have every key masked: softmax over minus infinity only is NaN."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Pool(nn.Module):
    """Attention pooling with a mask."""

    def __init__(self, width):
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, h, mask):
        weights = self.score(h).squeeze(-1).masked_fill(~mask, float("-inf")).softmax(-1)
        return (weights[..., None] * h).sum(1)


class Baskets(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.mix = nn.Sequential(nn.Linear(16, 32), nn.GELU())
        self.pool = Pool(32)
        self.out = nn.Linear(32, 2)

    def training_step(self, batch, batch_idx):
        items, lengths, label = batch["items"], batch["lengths"], batch["label"]
        mask = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        loss = F.cross_entropy(self.out(self.pool(self.mix(self.embed(items)), mask)), label)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


items = torch.randint(1, 30, (900, 10))
lengths = torch.randint(1, 11, (900,))
if FAULT:
    lengths[torch.randint(100, 900, (6,))] = 0
seen = torch.arange(10) < lengths[:, None]
label = ((items < 6) & seen).any(1).long()
rows = [{"items": a, "lengths": b, "label": c} for a, b, c in TensorDataset(items * seen, lengths, label)]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Baskets(), DataLoader(rows, 30, shuffle=True))
