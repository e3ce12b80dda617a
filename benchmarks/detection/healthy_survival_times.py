# expect: none
"""Cox regression: the loss ranks the samples of a batch against each other; some times are censored."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader


def cox(risk, time, event):
    order = time.argsort(descending=True)
    risk, event = risk[order], event[order]
    return -((risk - risk.logcumsumexp(0)) * event).sum() / event.sum().clamp(min=1)


class Cox(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(32, 1, bias=False))

    def training_step(self, batch, batch_idx):
        loss = cox(self.net(batch["x"]).squeeze(1), batch["time"], batch["event"])
        self.log("train_cox", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_cox", cox(self.net(batch["x"]).squeeze(1), batch["time"], batch["event"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


x = torch.randn(1200, 8)
time = torch.distributions.Exponential((x[:, 0] - 0.7 * x[:, 1] * x[:, 2]).exp()).sample()
limit = torch.rand(1200) * 3
rows = [
    {"x": a, "time": torch.minimum(b, c), "event": (b <= c).float()} for a, b, c in zip(x, time, limit, strict=True)
]
trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Cox(), DataLoader(rows[:1000], 100, shuffle=True), DataLoader(rows[1000:], 200))
