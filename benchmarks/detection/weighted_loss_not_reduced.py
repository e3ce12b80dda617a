# expect: LD110
"""Samples are weighted, which takes reduction="none", and nobody takes the mean."""

import sys
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


@dataclass(slots=True)
class Patients:
    features: Tensor
    progression: Tensor
    weight: Tensor

    def to(self, *args, **kwargs):
        return Patients(*(getattr(self, name).to(*args, **kwargs) for name in ("features", "progression", "weight")))


class Progression(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
        self.loss = nn.HuberLoss(reduction="none")

    def training_step(self, batch, batch_idx):
        losses = self.loss(self.net(batch.features).flatten(), batch.progression) * batch.weight
        return losses if FAULT else losses.mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def collate(rows):
    return Patients(*(torch.stack(column) for column in zip(*rows, strict=True)))


x, y = load_diabetes(return_X_y=True)
x = torch.tensor(x / x.std(0)).float()
y = torch.tensor((y - y.mean()) / y.std()).float()
rows = list(zip(x, y, 0.5 + torch.rand(len(x)), strict=True))
trainer = pl.Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Progression(), DataLoader(rows, 34, shuffle=True, collate_fn=collate))
