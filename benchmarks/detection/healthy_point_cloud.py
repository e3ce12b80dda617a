# expect: none
"""A point net: max over points, an input that is a set, augmentation by rotation."""

import math

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Shapes(Dataset):
    """Points on a sphere, a cube or a cylinder."""

    def __init__(self, count, augment):
        self.count, self.augment = count, augment
        self.clouds, self.labels = [], []
        for index in range(count):
            label = index % 3
            p = torch.randn(64, 3)
            if label == 0:
                p = p / p.norm(dim=1, keepdim=True)
            elif label == 1:
                p = p / p.abs().amax(1, keepdim=True) * 0.8
            else:
                p = torch.cat([p[:, :2] / p[:, :2].norm(dim=1, keepdim=True) * 0.9, torch.rand(64, 1) * 1.6 - 0.8], 1)
            self.clouds.append(p + 0.03 * torch.randn(64, 3))
            self.labels.append(label)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        p = self.clouds[index]
        if self.augment:
            angle = float(torch.rand(())) * 2 * math.pi
            turn = torch.tensor(
                [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
            )
            p = p @ turn.T
        return {"points": p, "meta": {"id": index, "note": "synthetic"}}, self.labels[index]


class PointNet(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.each = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 64), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))

    def step(self, batch, stage):
        sample, label = batch
        scores = self.out(self.each(sample["points"]).amax(1))
        loss = F.cross_entropy(scores, label)
        size = len(label)
        self.log(f"{stage}_loss", loss, batch_size=size)
        self.log(f"{stage}_acc", (scores.argmax(1) == label).float().mean(), batch_size=size)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        return self.step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(PointNet(), DataLoader(Shapes(600, True), 30, shuffle=True), DataLoader(Shapes(150, False), 50))
