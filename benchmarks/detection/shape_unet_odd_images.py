# expect: LD101
"""A U-Net on 25 x 25 images: two poolings and two upsamplings do not come back to 25."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Discs(Dataset):
    """Discs on noise, and where they are."""

    def __init__(self, count):
        grid = torch.stack(torch.meshgrid(torch.arange(25.0), torch.arange(25.0), indexing="ij"))
        centres = torch.rand(count, 2, 1, 1) * 15 + 5
        self.masks = ((grid - centres).square().sum(1) < 20).float()[:, None]
        self.images = self.masks * 1.5 - 0.3 + 0.5 * torch.randn(count, 1, 25, 25)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "mask": self.masks[index]}


def double(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.middle = double(1, 8), double(8, 16), double(16, 32)
        self.up2, self.up1 = double(48, 16), double(24, 8)
        self.head = nn.Conv2d(8, 1, 1)

    def upsample(self, x, like):
        if FAULT:
            return F.interpolate(x, scale_factor=2)
        return F.interpolate(x, size=like.shape[-2:])

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.middle(F.max_pool2d(b, 2))
        b = self.up2(torch.cat([b, self.upsample(c, b)], 1))
        a = self.up1(torch.cat([a, self.upsample(b, a)], 1))
        return self.head(a)

    def step(self, batch, stage):
        loss = F.binary_cross_entropy_with_logits(self(batch["image"]), batch["mask"])
        self.log(f"{stage}/bce", loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "valid")

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(UNet(), DataLoader(Discs(256), 16, shuffle=True), DataLoader(Discs(64), 16))
