# expect: LD402
"""One step serves training and validation, and begins by putting the backbone into train mode."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class DigitsData(pl.LightningDataModule):
    def setup(self, stage):
        x, y = load_digits(return_X_y=True)
        data = TensorDataset(torch.tensor((x - 5) / 6).float().view(-1, 1, 8, 8), torch.tensor(y))
        self.train, self.val = torch.utils.data.random_split(data, [1497, 300])

    def train_dataloader(self):
        return DataLoader(self.train, 64, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, 64)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Dropout2d(0.2),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(256, 10)

    def _shared_step(self, batch, stage):
        if FAULT or stage == "train":
            self.backbone.train()
        x, y = batch
        scores = self.head(self.backbone(x))
        loss = F.cross_entropy(scores, y)
        self.log_dict({f"{stage}/loss": loss, f"{stage}/acc": (scores.argmax(1) == y).float().mean()})
        return loss

    def training_step(self, batch, batch_idx):
        return self._shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        return self._shared_step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), datamodule=DigitsData())
