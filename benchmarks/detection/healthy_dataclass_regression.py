# expect: none
"""Regression on batches that are dataclasses."""

import dataclasses

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_diabetes
from torch import nn


@dataclasses.dataclass(slots=True)
class Batch:
    feats: torch.Tensor
    target: torch.Tensor
    names: list
    extra: object = None

    def to(self, d, non_blocking=False):
        self.feats = self.feats.to(d)
        self.target = self.target.to(d)
        return self


def collate(items):
    return Batch(
        torch.stack([i[0] for i in items]), torch.stack([i[1] for i in items]), [f"p{k}" for k in range(len(items))]
    )


class Reg(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(10), nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
        self.loss = nn.HuberLoss()

    def training_step(self, batch: Batch, i):
        p = self.net(batch.feats).squeeze(-1)
        loss = self.loss(p, batch.target)
        self.log("loss", loss, batch_size=len(batch.names))
        return loss

    def validation_step(self, batch, i, dataloader_idx=0):
        p = self.net(batch.feats).squeeze(-1)
        self.log("val_mae_original_units", ((p - batch.target).abs() * 77).mean(), batch_size=len(batch.names))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9, nesterov=True)


d = load_diabetes()
x = torch.tensor(d.data / d.data.std(0), dtype=torch.float32)
y = torch.tensor((d.target - 152) / 77, dtype=torch.float32)
p = torch.randperm(len(x))
x, y = x[p], y[p]
ds = torch.utils.data.TensorDataset(x, y)
tr, va, vb = torch.utils.data.random_split(ds, [342, 50, 50])
DL = torch.utils.data.DataLoader
pl.Trainer(max_epochs=6, enable_progress_bar=False, logger=pl.loggers.CSVLogger("."), log_every_n_steps=5).fit(
    Reg(),
    DL(tr, 32, shuffle=True, collate_fn=collate),
    [DL(va, 25, collate_fn=collate), DL(vb, 25, collate_fn=collate)],
)
