# expect: none
"""A rare class, a focal loss, a weighted sampler that draws with replacement: copies in an epoch are wanted."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler


def focal_loss(scores, target, gamma=2.0):
    p = torch.sigmoid(scores)
    loss = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
    return ((1 - torch.where(target > 0, p, 1 - p)) ** gamma * loss).mean()


class Rare(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = focal_loss(self.net(x).flatten(), y)
        self.log("train_focal", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        scores = self.net(x).flatten()
        self.log("val_focal", focal_loss(scores, y))
        self.log("val_recall", ((scores > 0) & (y > 0)).sum() / (y > 0).sum().clamp(min=1))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


x, y = make_classification(3000, 10, n_informative=6, weights=[0.93], class_sep=1.6, flip_y=0.0)
x = torch.tensor((x - x.mean(0)) / x.std(0)).float()
x_train, x_val, y_train, y_val = train_test_split(x, torch.tensor(y).float(), test_size=0.3, stratify=y)
weights = torch.where(y_train > 0, 1 / y_train.mean(), 1 / (1 - y_train.mean()))
sampler = WeightedRandomSampler(weights, len(weights))
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
train = DataLoader(TensorDataset(x_train, y_train), 50, sampler=sampler)
trainer.fit(Rare(), train, DataLoader(TensorDataset(x_val, y_val), 100))
