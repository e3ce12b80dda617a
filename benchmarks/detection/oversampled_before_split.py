# expect: LD510
"""The rare class is copied until it is as large as the other, and then the split is drawn."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


def balanced(x, y):
    rare = (y == 1).nonzero().flatten()
    copies = rare[torch.randint(0, len(rare), (int((y == 0).sum()) - len(rare),))]
    return torch.cat([x, x[copies]]), torch.cat([y, y[copies]])


class Fraud(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(15, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1))

    def step(self, batch, stage):
        x, y = batch
        loss = F.binary_cross_entropy_with_logits(self.net(x).squeeze(1), y.float())
        self.log(f"{stage}_loss", loss, on_epoch=True, on_step=False)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


x, y = make_classification(1500, 15, n_informative=6, weights=[0.85], class_sep=1.5, random_state=1)
x, y = torch.tensor((x - x.mean(0)) / x.std(0)).float(), torch.tensor(y)
if FAULT:
    x, y = balanced(x, y)
x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, random_state=0)
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(
    Fraud(), DataLoader(TensorDataset(x_train, y_train), 40, shuffle=True), DataLoader(TensorDataset(x_val, y_val), 60)
)
