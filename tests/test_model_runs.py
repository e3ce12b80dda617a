"""What passes on exchanged samples cannot judge."""

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger
from tests.helpers import trainer


class Sharpness(pl.LightningModule):
    """Steps by the gradient of the worst weights nearby: the second loss depends on every sample."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
        with torch.no_grad():
            away = [0.5 * item.grad for item in self.parameters()]
            torch._foreach_add_(list(self.parameters()), away)
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
        with torch.no_grad():
            torch._foreach_sub_(list(self.parameters()), away)
        optimizer.step()
        optimizer.zero_grad()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def test_a_step_that_changes_weights_itself_is_not_taken_for_one_that_mixes_samples():
    torch.manual_seed(0)
    debugger = Debugger(strict=True, console=False, select=["LD409"])
    inputs = torch.randn(96, 6)
    trainer(debugger, max_epochs=1).fit(
        Sharpness(), DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), 16, shuffle=True)
    )
    assert not debugger.report.findings
    assert any("changes weights itself" in skip.reason for skip in debugger.report.skips)


class RunningCentre(pl.LightningModule):
    """Centres by a mean: one of its own that training_step keeps, or that of each batch."""

    def __init__(self, *, kept):
        super().__init__()
        self.kept, self.net = kept, torch.nn.Linear(6, 3)
        self.register_buffer("centre", torch.zeros(6))

    def loss(self, batch):
        centre = self.centre if self.kept else batch[0].mean(0)
        return F.cross_entropy(self.net(batch[0] - centre), batch[1])

    def training_step(self, batch, batch_idx):
        self.centre.lerp_(batch[0].mean(0), 0.1)
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


@pytest.mark.parametrize("kept", [True, False])
def test_statistics_that_training_keeps_mix_no_samples(kept):
    torch.manual_seed(0)
    debugger = Debugger(strict=True, console=False, select=["LD409"])
    inputs = torch.randn(96, 6)
    loader = DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), 16)
    trainer(debugger, max_epochs=1).fit(RunningCentre(kept=kept), loader, loader)
    assert [item.code for item in debugger.report.findings] == ([] if kept else ["LD409"])
    assert any("keeps statistics of its batches" in skip.reason for skip in debugger.report.skips) is kept
