# expect: none
"""bf16, accumulation over 4 batches, clipping, warm-up from 0 and cosine by step, weight averaging."""

import math

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Mixer(nn.Module):
    def __init__(self, patches, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(patches, 2 * patches), nn.GELU(), nn.Linear(2 * patches, patches))
        self.channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 24, 2, 2)
        self.blocks = nn.Sequential(Mixer(16, 24), Mixer(16, 24))
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.blocks(self.patch(x).flatten(2).transpose(1, 2)).mean(1))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1], label_smoothing=0.1)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self(batch[0])
        self.log("val_loss", F.cross_entropy(scores.float(), batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=5e-3)
        total = self.trainer.estimated_stepping_batches

        def rate(step):
            return step / 10 if step < 10 else 0.5 * (1 + math.cos(math.pi * step / total))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


x, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor((x - 5) / 6).float().view(-1, 1, 8, 8), torch.tensor(y))
train, val = torch.utils.data.random_split(data, [1497, 300])
trainer = pl.Trainer(
    max_epochs=8,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    precision="bf16-mixed",
    accumulate_grad_batches=4,
    gradient_clip_val=0.5,
    callbacks=[StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=6)],
)
trainer.fit(Net(), DataLoader(train, 16, shuffle=True), DataLoader(val, 100))
