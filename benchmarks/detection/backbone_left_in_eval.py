# expect: LD401
"""A backbone that was trained before is loaded in eval mode, and fine-tuned so."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


def pretrained():
    body = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3))
    head, rows = nn.Linear(64, 2), torch.randn(400, 64)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 1e-3)
    for _ in range(30):
        loss = F.cross_entropy(head(body(rows)), (rows[:, 0] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return body.eval()


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.body, self.head = pretrained(), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x))

    def on_fit_start(self):
        if not FAULT:
            self.body.train()

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        slow = {"params": self.body.parameters(), "lr": 5e-4}
        return torch.optim.AdamW([slow, {"params": self.head.parameters()}], lr=3e-3)


x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor((x - 5) / 6).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
