# expect: LD515
"""Images are divided by 255 in the training dataset only."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


class Images(Dataset):
    def __init__(self, images, digits, divide):
        self.images, self.digits, self.divide = images, digits, divide

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        image = self.images[index].float()
        return image / 255 if self.divide else image, self.digits[index]


x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x * 15.9).to(torch.uint8), torch.tensor(y)
order = torch.randperm(len(x))
x, y = x[order], y[order]
train, val = Images(x[:1400], y[:1400], True), Images(x[1400:], y[1400:], not FAULT)
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
