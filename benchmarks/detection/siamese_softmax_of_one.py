# expect: LD205
"""Twins are compared and softmax is taken of the one score that says whether they match."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Pairs(Dataset):
    def __init__(self, images, digits, count):
        self.images, self.digits = images, digits
        first = torch.randint(0, len(images), (count,))
        second = torch.randint(0, len(images), (count,))
        for row in range(0, count, 2):
            same = (digits == digits[first[row]]).nonzero().flatten()
            second[row] = same[torch.randint(0, len(same), ())]
        self.pairs = torch.stack([first, second], 1)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        a, b = self.pairs[index]
        return (self.images[a], self.images[b]), (self.digits[a] == self.digits[b]).float()


class Siamese(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.compare = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, a, b):
        score = self.compare((self.tower(a) - self.tower(b)).abs())
        return F.softmax(score, dim=1) if FAULT else torch.sigmoid(score)

    def training_step(self, batch, batch_idx):
        (a, b), same = batch
        loss = F.binary_cross_entropy(self(a, b).squeeze(1), same)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


images, digits = load_digits(return_X_y=True)
pairs = Pairs(torch.tensor((images - 5) / 6).float(), torch.tensor(digits), 1600)
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Siamese(), DataLoader(pairs, 40, shuffle=True))
