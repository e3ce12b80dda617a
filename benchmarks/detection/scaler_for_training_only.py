# expect: LD515
"""Training features are standardised; validation features are taken as they come."""

import sys

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Table(Dataset):
    def __init__(self, x, y):
        self.x, self.y = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class WineData(pl.LightningDataModule):
    def setup(self, stage=None):
        x_train, x_val, y_train, y_val = train_test_split(*load_wine(return_X_y=True), test_size=0.3, random_state=0)
        scaler = StandardScaler()
        x_train = scaler.fit_transform(x_train)
        if not FAULT:
            x_val = scaler.transform(x_val)
        self.train, self.val = Table(x_train, y_train), Table(x_val, y_val)

    def train_dataloader(self):
        return DataLoader(self.train, 16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, 18)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.net(batch[0])
        self.log("val/loss", F.cross_entropy(scores, batch[1]))
        self.log("val/acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


trainer = pl.Trainer(max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), datamodule=WineData())
