# expect: LD403
"""A pretrained backbone is frozen by requires_grad only: its batch-norms go on following the data."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv
images, digits = load_digits(return_X_y=True)
images = torch.tensor((images - 5) / 6).float().view(-1, 1, 8, 8)
digits = torch.tensor(digits)


def make_backbone():
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
    )
    full = nn.Sequential(net, nn.Linear(24 * 16, 10))
    optimizer = torch.optim.Adam(full.parameters(), 3e-3)
    low = (digits < 5).nonzero().flatten()
    for _ in range(60):
        rows = low[torch.randint(0, len(low), (64,))]
        loss = F.cross_entropy(full(images[rows]), digits[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


class Transfer(pl.LightningModule):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        for parameter in self.backbone.parameters():
            parameter.requires_grad = False
        self.classifier = nn.Linear(24 * 16, 10)

    def on_train_epoch_start(self):
        if not FAULT:
            self.backbone.eval()

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.classifier(self.backbone(batch[0])), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.classifier(self.backbone(batch[0]))
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.classifier.parameters(), lr=3e-3)


train, val = torch.utils.data.random_split(TensorDataset(images, digits), [1497, 300])
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Transfer(make_backbone()), DataLoader(train, 64, shuffle=True, drop_last=True), DataLoader(val, 100))
