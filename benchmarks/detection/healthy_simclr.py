# expect: none
"""SimCLR: the loss is over the batch, two views of each sample fold into it."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class Sim(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 32))
        self.g = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))

    def training_step(self, batch, i):
        (v1, v2), _y, _names = batch
        z = F.normalize(self.g(self.f(torch.cat([v1, v2]))), dim=1)
        n = len(v1)
        sim = z @ z.T / 0.2
        sim.fill_diagonal_(float("-inf"))
        t = torch.arange(2 * n).roll(n)
        loss = F.cross_entropy(sim, t)
        self.log("nt_xent", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3, weight_decay=1e-5)


class DS(torch.utils.data.Dataset):
    def __init__(self):
        d = load_digits()
        self.x = torch.tensor(d.data / 16, dtype=torch.float32)
        self.y = d.target

    def __len__(self) -> int:
        return len(self.x)

    def a(self, x):
        return x + torch.randn(64) * 0.1

    def __getitem__(self, i):
        return [self.a(self.x[i]), self.a(self.x[i])], int(self.y[i]), f"img{i}.png"


pl.Trainer(max_epochs=2, enable_progress_bar=False, precision="bf16-mixed").fit(
    Sim(), torch.utils.data.DataLoader(DS(), 128, shuffle=True, drop_last=True)
)
