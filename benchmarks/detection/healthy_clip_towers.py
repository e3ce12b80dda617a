# expect: none
"""Two towers and a symmetric cross-entropy over the batch, with a learned temperature."""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader


class Clip(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.text = nn.Sequential(nn.Embedding(10, 32), nn.Flatten(), nn.Linear(32 * 3, 16))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def step(self, batch, stage):
        image, words = F.normalize(self.image(batch["image"]), dim=-1), F.normalize(self.text(batch["words"]), dim=-1)
        scores = self.scale.exp() * image @ words.T
        same = torch.arange(len(scores), device=scores.device)
        loss = (F.cross_entropy(scores, same) + F.cross_entropy(scores.T, same)) / 2
        self.log(f"{stage}/contrastive", loss)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x, y = load_digits(return_X_y=True)
x, y = torch.tensor((x - 5) / 6).float(), torch.tensor(y)
words = torch.stack([y, (y * 3 + torch.randint(0, 2, y.shape)) % 10, torch.randint(0, 10, y.shape)], 1)
rows = [{"image": a, "words": b} for a, b in zip(x, words, strict=True)]
train, val = torch.utils.data.random_split(rows, [1437, 360])
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Clip(), DataLoader(train, 40, shuffle=True), DataLoader(val, 40))
