# expect: LD503
"""A DataModule forgets shuffle=True, and the images lie class by class, as in folders."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Folder(Dataset):
    """Images in the order of their folders."""

    def __init__(self, images, digits):
        order = digits.argsort(stable=True)
        self.images, self.digits = images[order], digits[order]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"pixels": self.images[index], "target": self.digits[index]}


class Digits(pl.LightningDataModule):
    def __init__(self, batch_size=50):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        images, digits = load_digits(return_X_y=True)
        images, digits = torch.tensor((images - 5) / 6).float().view(-1, 1, 8, 8), torch.tensor(digits)
        order = torch.randperm(len(images))
        self.train = Folder(images[order[:1400]], digits[order[:1400]])
        self.val = Folder(images[order[1400:]], digits[order[1400:]])

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=not FAULT)

    def val_dataloader(self):
        return DataLoader(self.val, self.batch_size)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
        )

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch["pixels"]), batch["target"])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.net(batch["pixels"])
        self.log("val_loss", F.cross_entropy(scores, batch["target"]), batch_size=len(scores))
        self.log("val_acc", (scores.argmax(1) == batch["target"]).float().mean(), batch_size=len(scores))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), datamodule=Digits())
