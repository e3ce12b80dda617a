# expect: LD207
"""A ReLU after the last layer of a regression on standardised targets."""

import sys

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FAULT = "--repaired" not in sys.argv


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 48), nn.Linear(48, 1)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = self.fc2(x)
        return (F.relu(x) if FAULT else x)[:, 0]

    def training_step(self, batch, batch_idx):
        loss = F.mse_loss(self(batch[0]), batch[1])
        self.log("train_rmse", loss.sqrt())
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_mse", F.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x, y = load_diabetes(return_X_y=True)
data = TensorDataset(torch.tensor(x / x.std(0)).float(), torch.tensor((y - y.mean()) / y.std()).float())
train, val = torch.utils.data.random_split(data, [352, 90])
trainer = pl.Trainer(max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 32, shuffle=True), DataLoader(val, 45))
