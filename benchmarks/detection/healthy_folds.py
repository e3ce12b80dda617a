# expect: none
"""Five folds in one process: a new model and a new Trainer for each; validation of one is training of the next."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))

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


x, y = load_breast_cancer(return_X_y=True)
x = torch.tensor((x - x.mean(0)) / x.std(0)).float()
y = torch.tensor(y)
for train, val in StratifiedKFold(3, shuffle=True).split(x, y):
    loaders = (
        DataLoader(TensorDataset(x[train], y[train]), 32, shuffle=True),
        DataLoader(TensorDataset(x[val], y[val]), 64),
    )
    fold = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
    fold.fit(Net(), *loaders)
    fold.test(dataloaders=loaders[1]) if hasattr(fold.lightning_module, "test_step") else None
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
