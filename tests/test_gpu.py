"""On a GPU: the same weights with and without us, the same findings as on a CPU, and nobody waits for the device."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import Debugger
from tests.helpers import trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

STEADY = range(40, 58)
"""Steps of an epoch of 64 that are neither looked at closely nor near its end."""


class Classifier(pl.LightningModule):
    def __init__(self, softmax=False):
        super().__init__()
        self.softmax = softmax
        self.net = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        scores = self.net(inputs)
        loss = nn.functional.cross_entropy(scores.softmax(1) if self.softmax else scores, labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        inputs, labels = batch
        scores = self.net(inputs)
        self.log("val_loss", nn.functional.cross_entropy(scores, labels))
        self.log("val_acc", (scores.argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3)


def loaders():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1280, 20, generator=generator)
    labels = (inputs @ torch.randn(20, 4, generator=generator)).argmax(1)
    train = DataLoader(TensorDataset(inputs[:1024], labels[:1024]), 16, shuffle=True, pin_memory=True)
    return train, DataLoader(TensorDataset(inputs[1024:], labels[1024:]), 16, pin_memory=True)


def fitted(*callbacks, module=None, **options):
    pl.seed_everything(0, verbose=False)
    module = module or Classifier()
    trainer(*callbacks, accelerator="cuda", max_epochs=2, **options).fit(module, *loaders())
    return module


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_the_weights_are_the_same(precision):
    watch = Debugger(console=False, strict=True)
    alone, watched = fitted(precision=precision), fitted(watch, precision=precision)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    assert not [item for item in watch.report.findings if item.severity.value != "info"]


def test_a_bug_is_found_as_on_a_cpu():
    watch = Debugger(console=False, strict=True)
    fitted(watch, module=Classifier(softmax=True))
    assert watch.report.headlines[0].code == "LD201"


class Strict(pl.Callback):
    """Makes whatever waits for the device an error, between two of its kind, in steady state."""

    def __init__(self, *, ends):
        self.ends = ends

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not self.ends and batch_idx in STEADY and trainer.current_epoch == 1:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.ends:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("ours", [False, True], ids=["without", "with"])
def test_nobody_waits_in_steady_state(ours):
    watch = [Debugger(console=False, strict=True)] if ours else []
    try:
        fitted(Strict(ends=False), *watch, Strict(ends=True))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not watch or watch[0].report.status == "finished"
