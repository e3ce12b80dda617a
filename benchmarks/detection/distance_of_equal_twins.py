# expect: LD303
"""A contrastive loss takes the root of a squared distance, which is 0 for a pair of the same image."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Pairs(Dataset):
    def __init__(self):
        images, digits = load_digits(return_X_y=True)
        self.images, self.digits = torch.tensor((images - 5) / 6).float(), torch.tensor(digits)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        other = int(torch.randint(0, len(self), ()))
        if torch.rand(()) < 0.5:
            same = (self.digits == self.digits[index]).nonzero().flatten()
            other = int(same[torch.randint(0, len(same), ())])
        return {"a": self.images[index], "b": self.images[other], "same": self.digits[index] == self.digits[other]}


class Metric(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def training_step(self, batch, batch_idx):
        square = (self.net(batch["a"]) - self.net(batch["b"])).square().sum(1)
        distance = square.sqrt() if FAULT else (square + 1e-8).sqrt()
        apart = (2 - distance).clamp(min=0).square()
        loss = torch.where(batch["same"], square, apart).mean()
        self.log("train/contrastive", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Metric(), DataLoader(Pairs(), 60, shuffle=True))
