# expect: none
"""Only the head is trained in the first epochs; then the body is unfrozen and added to the optimizer."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.head = nn.Linear(64, 10)
        self.body.requires_grad_(False)

    def on_train_epoch_start(self):
        if self.current_epoch < 2:
            self.body.eval()
        if self.current_epoch == 2:
            self.body.requires_grad_(True)
            self.body.train()
            self.optimizers().add_param_group({"params": self.body.parameters(), "lr": 3e-4})

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.head(self.body(batch[0])), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.head(self.body(batch[0]))
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.head.parameters(), lr=5e-3)


x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor((x - 5) / 6).float(), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 50, shuffle=True), DataLoader(val, 100))
