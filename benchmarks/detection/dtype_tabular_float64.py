# expect: LD105
"""A table from scikit-learn in a dictionary: float64, as NumPy has it."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv


def rows(x, y):
    kind = torch.float64 if FAULT else torch.float32
    return [
        {"features": torch.as_tensor(a, dtype=kind), "target": torch.tensor(int(b))} for a, b in zip(x, y, strict=True)
    ]


class Tabular(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 32), nn.SiLU(), nn.Dropout(0.1), nn.Linear(32, 2))
        self.criterion = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        loss = self.criterion(self.net(batch["features"]), batch["target"])
        self.log("loss", loss, prog_bar=True)
        return {"loss": loss}

    def validation_step(self, batch, batch_idx):
        scores = self.net(batch["features"])
        self.log("val_loss", self.criterion(scores, batch["target"]))
        self.log("val_acc", (scores.argmax(1) == batch["target"]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


x, y = load_breast_cancer(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
scaler = StandardScaler().fit(x_train)
train = DataLoader(rows(scaler.transform(x_train), y_train), 32, shuffle=True)
val = DataLoader(rows(scaler.transform(x_val), y_val), 64)
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False, num_sanity_val_steps=0)
trainer.fit(Tabular(), train, val)
