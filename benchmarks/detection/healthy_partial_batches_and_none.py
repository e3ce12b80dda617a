# expect: none
"""A dataset that returns None for broken rows, which collate drops; an optional mask that is None."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        if batch is None:
            return None
        loss = F.cross_entropy(self(batch["x"]), batch["y"])
        self.log("train_loss", loss, batch_size=len(batch["y"]))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


class Rows(Dataset):
    def __init__(self, x, y):
        self.x, self.y, self.broken = x, y, set(range(7, len(y), 97))

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return None if index in self.broken else {"x": self.x[index], "y": self.y[index]}


def collate(rows):
    rows = [row for row in rows if row is not None]
    return {**torch.utils.data.default_collate(rows), "mask": None} if rows else None


x = torch.randn(1000, 10)
data = Rows(x, (x[:, :4] + 0.3 * torch.randn(1000, 4)).argmax(1))
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(data, 40, shuffle=True, collate_fn=collate))
