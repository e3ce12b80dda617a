# expect: none
"""The image is what is trained; the network is frozen."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

vgg = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))


class P(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.vgg = vgg.eval()
        self.gen = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def on_train_start(self):
        self.vgg.eval()

    def training_step(self, batch, i):
        (x,) = batch
        y = self.gen(x + 0.3 * torch.randn_like(x))
        loss = F.l1_loss(y, x) + 0.1 * F.mse_loss(self.vgg(y), self.vgg(x))
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        o = torch.optim.Adam(self.gen.parameters(), 2e-3)
        return {
            "optimizer": o,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=10),
                "interval": "step",
            },
        }


x = torch.rand(300, 1, 8, 8) - 0.5
pl.Trainer(max_epochs=3, enable_progress_bar=False, logger=False, accumulate_grad_batches=2).fit(
    P(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), 25, shuffle=True)
)
