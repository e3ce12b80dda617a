# expect: none
"""Embeddings of users and items with a few rows a batch, negatives drawn in the step."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class Recommender(pl.LightningModule):
    def __init__(self, users=200, items=100):
        super().__init__()
        self.items = items
        self.user, self.item, self.bias = nn.Embedding(users, 8), nn.Embedding(items, 8), nn.Embedding(items, 1)

    def forward(self, user, item):
        return (self.user(user) * self.item(item)).sum(-1) + self.bias(item)[..., 0]

    def step(self, batch, stage):
        wrong = torch.randint(0, self.items, batch["item"].shape)
        better = self(batch["user"], batch["item"]) - self(batch["user"], wrong)
        loss = -F.logsigmoid(better).mean()
        self.log(f"{stage}_bpr", loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-2)


taste, kind = torch.randint(0, 5, (200,)), torch.randint(0, 5, (100,))
user = torch.randint(0, 200, (6000,))
item = torch.randint(0, 100, (6000,))
keep = (taste[user] == kind[item]) | (torch.rand(6000) < 0.05)
rows = [{"user": a, "item": b} for a, b in zip(user[keep], item[keep], strict=True)]
cut = len(rows) * 4 // 5
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Recommender(), DataLoader(rows[:cut], 32, shuffle=True), DataLoader(rows[cut:], 64))
