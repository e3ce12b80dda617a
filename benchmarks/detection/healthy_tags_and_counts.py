# expect: none
"""Several tags and a count of one input; a head that no loss uses on purpose is not in it."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn


class M(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.t = nn.Sequential(nn.Linear(12, 64), nn.ReLU())
        self.tags = nn.Linear(64, 5)
        self.rate = nn.Sequential(nn.Linear(64, 1), nn.Softplus())
        self.att = nn.Linear(64, 1)

    def training_step(self, batch, i):
        h = self.t(batch["x"])
        l1 = F.binary_cross_entropy_with_logits(self.tags(h), batch["tags"], pos_weight=torch.full((5,), 2.0))
        l2 = F.poisson_nll_loss(self.rate(h).squeeze(1), batch["count"], log_input=False)
        self.log("l1", l1)
        self.log("l2", l2)
        return {"loss": l1 + 0.5 * l2}

    def configure_optimizers(self):
        return {
            "optimizer": torch.optim.Adam(
                [
                    {"params": self.t.parameters(), "lr": 1e-3},
                    {"params": [*self.tags.parameters(), *self.rate.parameters(), *self.att.parameters()], "lr": 3e-3},
                ]
            )
        }


x = torch.randn(1000, 12)
tags = (x[:, :5] + 0.3 * torch.randn(1000, 5) > 0).float()
cnt = torch.poisson((x[:, 5] * 0.5).exp())
ds = [{"x": x[i], "tags": tags[i], "count": cnt[i]} for i in range(1000)]
pl.Trainer(max_epochs=3, enable_progress_bar=False, logger=False).fit(
    M(), torch.utils.data.DataLoader(ds, 50, shuffle=True)
)
