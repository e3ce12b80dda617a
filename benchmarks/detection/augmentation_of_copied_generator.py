# expect: LD513
"""The dataset keeps a generator for its augmentation, and each of two workers gets a copy of it in every epoch."""

import sys

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Augmented(Dataset):
    def __init__(self, images, digits):
        self.images, self.digits = images, digits
        self.rng = np.random.default_rng(7)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        rng = self.rng if FAULT else np.random.default_rng(int(torch.randint(2**31, ())))
        image = np.roll(self.images[index], rng.integers(-1, 2), axis=1)
        image = image + rng.normal(0, 0.2, image.shape)
        return torch.tensor(image, dtype=torch.float32)[None], int(self.digits[index])


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
        )

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


digits = load_digits()
data = Augmented((digits.images - 5) / 6, digits.target)
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(data, 50, shuffle=True, num_workers=2))
