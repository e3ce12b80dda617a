# expect: LD201
"""A residual network whose output object carries probabilities; they go on into cross_entropy."""

import sys
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

FAULT = "--repaired" not in sys.argv


@dataclass
class Output:
    embedding: Tensor
    scores: Tensor


class Block(nn.Module):
    def __init__(self, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width * stride, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width * stride)
        self.conv2 = nn.Conv2d(width * stride, width * stride, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width * stride)
        self.skip = nn.Conv2d(width, width * stride, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.skip(x))


class ResNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8), Block(8, 2), Block(16, 2))
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        h = self.blocks(self.stem(x)).mean((2, 3))
        scores = self.head(h)
        if FAULT:
            scores = scores.softmax(-1)
        return Output(h, scores)


class Lit(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = ResNet(10)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def training_step(self, batch, batch_idx):
        out = self.model(batch[0])
        loss = self.criterion(out.scores, batch[1])
        self.log("loss/train", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        out = self.model(batch[0])
        self.log("loss/val", self.criterion(out.scores, batch[1]))
        self.log("acc/val", (out.scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)


images, digits = load_digits(return_X_y=True)
data = TensorDataset((torch.tensor(images).float().view(-1, 1, 8, 8) - 5) / 6, torch.tensor(digits))
train, val = random_split(data, [1437, 360])
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Lit(), DataLoader(train, 48, shuffle=True, drop_last=True), DataLoader(val, 120))
