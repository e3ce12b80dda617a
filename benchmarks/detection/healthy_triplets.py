# expect: none
"""Triplets with a margin: the loss is 0 for most samples after a while, batches hold several of each class."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Triplets(Dataset):
    def __init__(self, images, digits):
        self.images, self.digits = images, digits

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        same = (self.digits == self.digits[index]).nonzero().flatten()
        other = (self.digits != self.digits[index]).nonzero().flatten()
        positive = self.images[same[torch.randint(0, len(same), ())]]
        negative = self.images[other[torch.randint(0, len(other), ())]]
        return self.images[index], positive, negative


class Embed(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 16))
        self.loss = nn.TripletMarginLoss(margin=0.5)

    def forward(self, x):
        return F.normalize(self.net(x), dim=-1)

    def training_step(self, batch, batch_idx):
        loss = self.loss(*map(self, batch))
        self.log("triplet", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_triplet", self.loss(*map(self, batch)))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


images, digits = load_digits(return_X_y=True)
images, digits = torch.tensor((images - 5) / 6).float(), torch.tensor(digits)
order = torch.randperm(len(images))
train, val = order[:1500], order[1500:]
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(
    Embed(),
    DataLoader(Triplets(images[train], digits[train]), 50, shuffle=True),
    DataLoader(Triplets(images[val], digits[val]), 50),
)
