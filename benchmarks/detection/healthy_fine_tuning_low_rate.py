# expect: none
"""A network that is nearly done is tuned at a rate of 1e-5: hardly anything moves, and that is meant."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self, net):
        super().__init__()
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
        return torch.optim.AdamW(self.parameters(), lr=1e-5)


def trained(x, y):
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(250):
        rows = torch.randint(0, len(x), (64,))
        loss = F.cross_entropy(net(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


x, y = load_digits(return_X_y=True)
x, y = torch.tensor((x - 5) / 6).float(), torch.tensor(y)
order = torch.randperm(len(x))
x, y = x[order], y[order]
net = trained(x[:700], y[:700])
train, val = TensorDataset(x[:1400], y[:1400]), TensorDataset(x[1400:], y[1400:])
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(net), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
