# expect: LD201
"""A segmentation net ends in Softmax(dim=1) and is trained with cross_entropy over pixels."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 3, 1)]
        self.net = nn.Sequential(*layers, *([nn.Softmax(dim=1)] if FAULT else []))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch["image"]), batch["mask"])
        self.log("train/loss", loss)
        return {"loss": loss, "size": len(batch["image"])}

    def validation_step(self, batch, batch_idx):
        scores = self(batch["image"])
        self.log("val/loss", F.cross_entropy(scores, batch["mask"]))
        self.log("val/pixel_acc", (scores.argmax(1) == batch["mask"]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


mask = torch.randint(0, 3, (400, 1, 6, 6)).repeat_interleave(2, 2).repeat_interleave(2, 3)
image = (mask - 1.0) + 0.4 * torch.randn(400, 1, 12, 12)
rows = [{"image": a, "mask": b[0]} for a, b in zip(image, mask, strict=True)]
train, val = rows[:320], rows[320:]
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 16, shuffle=True), DataLoader(val, 40))
