# expect: none
"""Labels of which many are wrong: the loss ends high, and nothing is to be done."""

import pytorch_lightning as pl
import torch
from torch import nn

pl.seed_everything(8)
y0 = torch.randint(0, 3, (1500,))
X = 1.2 * torch.randn(3, 6)[y0] + torch.randn(1500, 6)
y = torch.where(torch.rand(1500) < 0.2, torch.randint(0, 3, (1500,)), y0)


class N(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.l = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))

    def training_step(self, batch, i):
        loss = nn.functional.cross_entropy(self.l(batch[0]), batch[1])
        self.log("loss/train", loss)
        return loss

    def validation_step(self, batch, i):
        z = self.l(batch[0])
        self.log("loss/val", nn.functional.cross_entropy(z, batch[1]))
        self.log("acc/val", (z.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 5e-3)


D = torch.utils.data.TensorDataset
pl.Trainer(max_epochs=12, logger=False, enable_checkpointing=False, enable_progress_bar=False).fit(
    N(),
    torch.utils.data.DataLoader(D(X[:1200], y[:1200]), 32, shuffle=True),
    torch.utils.data.DataLoader(D(X[1200:], y[1200:]), 100),
)
