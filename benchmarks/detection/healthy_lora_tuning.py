# expect: none
"""Low-rank updates of a frozen network: B starts at zero, two linear layers follow each other."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class LoRA(nn.Module):
    def __init__(self, linear, rank=4):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return self.linear(x) + x @ self.a.T @ self.b.T


def pretrained(x, y):
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(80):
        rows = torch.randint(0, len(x), (64,))
        loss = F.cross_entropy(net(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


class Net(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
        for place in (0, 2):
            net[place] = LoRA(net[place])
        self.net = net

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
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=2e-3)


x, y = load_digits(return_X_y=True)
x, y = torch.tensor((x - 5) / 6).float(), torch.tensor(y)
base = pretrained(x[:1400], y[:1400])
shifted = x.view(-1, 8, 8).transpose(1, 2).flatten(1)
train, val = TensorDataset(shifted[:1400], y[:1400]), TensorDataset(shifted[1400:], y[1400:])
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(base), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
