# expect: none
"""Segmentation of a stream of images without length."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        for _ in range(self.n):
            x = torch.randn(1, 16, 16) * 0.3
            m = torch.zeros(16, 16, dtype=torch.long)
            a, batch = torch.randint(0, 10, (2,)).tolist()
            m[a : a + 6, batch : batch + 6] = 1
            x[0] += m * 1.5
            if torch.rand(1) < 0.3:
                m[:2] = 255
            yield x, m


class UNet(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.c = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.SiLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 2, 1),
        )

    def training_step(self, batch, i):
        x, m = batch
        o = self.c(x)
        ce = F.cross_entropy(o, m, ignore_index=255, weight=torch.tensor([0.3, 1.0]))
        pr = o.softmax(1)[:, 1]
        v = m != 255
        t = (m == 1).float()
        dice = 1 - (2 * (pr * t * v).sum() + 1) / ((pr * v).sum() + t.sum() + 1)
        self.log("train_loss", ce + dice)
        return ce + dice

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 3e-3)


pl.Trainer(max_epochs=2, enable_progress_bar=False).fit(UNet(), torch.utils.data.DataLoader(Stream(320), 16))
