# expect: none
"""A masked autoencoder: random masks, the loss only where the input was hidden, an unused class token."""

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader


class MAE(pl.LightningModule):
    def __init__(self, width=32, patches=16):
        super().__init__()
        self.embed, self.decode = nn.Linear(4, width), nn.Linear(width, 4)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, patches, width))
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def step(self, batch):
        x = batch["patches"]
        hidden = torch.rand(x.shape[:2], device=x.device) < 0.5
        h = torch.where(hidden[..., None], self.mask_token, self.embed(x)) + self.place
        out = self.decode(self.encoder(h))
        error = (out - x).square().mean(-1)
        return (error * hidden).sum() / hidden.sum()

    def training_step(self, batch, batch_idx):
        loss = self.step(batch)
        self.log("mae/train", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("mae/val", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05)


images = torch.tensor((load_digits().images - 5) / 6).float()
patches = images.unfold(1, 2, 2).unfold(2, 2, 2).reshape(-1, 16, 4)
rows = [{"patches": row} for row in patches[torch.randperm(len(patches))]]
trainer = pl.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(MAE(), DataLoader(rows[:1500], 50, shuffle=True), DataLoader(rows[1500:], 100))
