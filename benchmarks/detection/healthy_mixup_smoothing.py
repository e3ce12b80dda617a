# expect: none
"""Mixup in training only, dropout and smoothing: the training loss lies far above the validation loss."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.Mish(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GroupNorm(4, 32),
            nn.Mish(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(512, 10),
        )

    def training_step(self, batch, batch_idx):
        x, y = batch
        share = torch.distributions.Beta(0.4, 0.4).sample()
        order = torch.randperm(len(x), device=x.device)
        target = F.one_hot(y, 10).float()
        target = share * target + (1 - share) * target[order]
        loss = F.cross_entropy(self.net(share * x + (1 - share) * x[order]), target, label_smoothing=0.1)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.03, momentum=0.9, nesterov=True)


x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor((x - 5) / 6).float().view(-1, 1, 8, 8), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Net(), DataLoader(train, 32, shuffle=True), DataLoader(val, 100))
