"""The epoch that evidence is stamped with: the one that runs, and after the last one still that."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_debug.callbacks._lightning import moment
from lightning_debug.callbacks.curve_diagnoser import CurveDiagnoser
from lightning_debug.evidence.curves import EpochValues
from tests.helpers import trainer


class Fitted(pl.LightningModule):
    def __init__(self, stop_at=None):
        super().__init__()
        self.net, self.stop_at = nn.Linear(3, 1), stop_at

    def training_step(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == self.stop_at:
            self.trainer.should_stop = True
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Epochs(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_start(self, trainer, pl_module):
        self.seen.append(moment(trainer).epoch)

    on_train_epoch_start = on_train_epoch_end = on_train_end = on_fit_end = on_train_start


def fitted(stop_at=None, ckpt_path=None, **options):
    watch = Epochs()
    run = trainer(watch, **options)
    run.fit(Fitted(stop_at), DataLoader(torch.randn(12, 3), 4), ckpt_path=ckpt_path)
    return watch.seen, run


@pytest.mark.parametrize(
    ("stop_at", "options"),
    [
        (None, {"max_epochs": 2}),
        (None, {"max_epochs": -1, "max_steps": 4}),
        (None, {"max_epochs": -1, "max_steps": 6}),
        ((1, 0), {"max_epochs": 9}),
        ((1, 2), {"max_epochs": 9}),
    ],
)
def test_the_last_of_two_epochs_is_epoch_one(stop_at, options):
    assert fitted(stop_at, **options)[0] == [0, 0, 0, 1, 1, 1, 1]


def test_a_run_that_goes_on_begins_with_the_next_epoch(tmp_path):
    _, run = fitted(max_epochs=2)
    run.save_checkpoint(tmp_path / "two.ckpt")
    assert fitted(max_epochs=3, ckpt_path=tmp_path / "two.ckpt")[0] == [2, 2, 2, 2, 2]


class Validated(Fitted):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.net(batch).square().mean())


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), (12, 1), (4, 3)])
def test_an_epoch_of_a_single_step_has_its_validation_too(batch_size, accumulate):
    watch, samples = CurveDiagnoser(), torch.randn(12, 3)
    run = trainer(watch, max_epochs=3, accumulate_grad_batches=accumulate)
    run.fit(Validated(), DataLoader(samples, batch_size), DataLoader(samples, 12))
    told = watch.session.record.of(EpochValues)
    assert [(item.at.epoch, item.val_loss is not None) for item in told] == [(epoch, True) for epoch in range(3)]
