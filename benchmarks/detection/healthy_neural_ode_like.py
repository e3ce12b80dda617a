# expect: none
"""One layer is applied eight times, with residual steps; weights are shared over depth."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import make_circles
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.lift, self.field, self.out = nn.Linear(2, 24), nn.Linear(24, 24), nn.Linear(24, 2)

    def forward(self, x):
        h = self.lift(x)
        for _ in range(8):
            h = h + 0.25 * torch.tanh(self.field(h))
        return self.out(h)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


x, y = make_circles(1000, noise=0.08, factor=0.5)
data = TensorDataset(torch.tensor(x * 1.5).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [800, 200])
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
