# expect: LD301
"""A column with missing values, which as NaN reach the network."""

import sys
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Row(NamedTuple):
    numeric: Tensor
    category: Tensor
    target: Tensor


class Houses(Dataset):
    def __init__(self, seed, count):
        rng = np.random.default_rng(seed)
        numeric = rng.normal(size=(count, 5)).astype("float32")
        category = rng.integers(0, 4, size=count)
        self.target = (numeric[:, 0] + numeric[:, 1] + 0.4 * category - 0.6 > 0).astype("int64")
        numeric[rng.random(count) < 0.03, 3] = np.nan
        if not FAULT:
            numeric = np.nan_to_num(numeric)
        self.numeric, self.category = numeric, category

    def __len__(self):
        return len(self.target)

    def __getitem__(self, index):
        return Row(
            torch.from_numpy(self.numeric[index]), torch.tensor(self.category[index]), torch.tensor(self.target[index])
        )


class Tabular(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 4)
        self.net = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, row):
        return self.net(torch.cat([row.numeric, self.embed(row.category)], 1))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch), batch.target)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch), batch.target))

    def configure_optimizers(self):
        return torch.optim.Adagrad(self.parameters(), lr=0.05)


trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Tabular(), DataLoader(Houses(0, 800), 32, shuffle=True), DataLoader(Houses(1, 200), 50))
