"""A fault that rank 1 alone has, under every part: ``FOLDER FAULT ...``.

Rank 0 writes a report for each fault, into a folder of its name.
"""

import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger
from tests.helpers import trainer
from tests.programs.farewell import part

RANK = int(os.environ.get("RANK", "0"))


class Model(pl.LightningModule):
    """Learns which of two numbers is above nought."""

    def __init__(self, fault):
        super().__init__()
        torch.manual_seed(3)
        self.fault = fault if RANK else ""
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4))

    def on_train_epoch_start(self):
        if self.fault == "mode":
            self.net.eval()

    def training_step(self, batch, batch_idx):
        if self.fault == "dies" and batch_idx == 5:
            os._exit(3)
        if self.fault == "raises" and batch_idx == 5:
            raise ValueError("no such file")
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(folder, fault):
    """Trains on a shard of 128 samples for each rank."""
    draw = torch.Generator().manual_seed(RANK)
    x = torch.randn(128, 8, generator=draw)
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    held_out = TensorDataset(x[:64].clone(), y[:64].clone())
    held_out.tensors[0].add_(0.3 * torch.randn(64, 8, generator=draw))
    if RANK and fault == "input":
        x[40, 3] = float("nan")
    if RANK and fault == "label":
        y[70] = 4
    if fault == "everywhere":
        x[40, 3] = float("nan")
    debugger = Debugger(report_dir=str(folder / fault), tensorboard=False)
    others = {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": 2, "use_distributed_sampler": False}
    one = trainer(debugger, max_epochs=2, **others)
    train = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    one.fit(Model(fault), train, DataLoader(held_out, batch_size=16))


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["LIGHTNING_DEBUG_STRICT"] = "1"
    for each in sys.argv[2:]:
        main(Path(sys.argv[1]), each)
    part()
