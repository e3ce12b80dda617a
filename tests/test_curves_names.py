"""Losses that bear no name of a loss: told by their values, which are those that the steps return."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug.callbacks._curve_log import CurveLog
from lightning_debug.callbacks.curve_diagnoser import CurveDiagnoser
from lightning_debug.curves.names import beside, recognised
from lightning_debug.evidence.curves import CurveReading
from tests.helpers import trainer


def followed(names, validations=4, penalty=0.0):
    """The names recognised where training logs its loss, less a penalty, by the first of ``names``."""
    log, step = CurveLog(), 0
    for epoch in range(validations):
        for _ in range(40):
            loss = torch.rand(()) + 1.0
            log.loss(loss, step)
            step += 1
        logged = [loss - penalty, *torch.rand(len(names) - 1)]
        log.validated(dict(zip(names, logged, strict=True)), step, epoch)
        log.arrive(1.0, wait=True)
    return log.names


@pytest.mark.parametrize(
    ("names", "train", "val"),
    [
        (("pinball", "val_pinball", "coverage"), "pinball", "val_pinball"),
        (("train/denoise", "val/denoise", "val/snr"), "train/denoise", "val/denoise"),
        (("energy", "valid_energy_epoch"), "energy", "valid_energy_epoch"),
        (("pinball", "val_coverage"), "", ""),
        (("entropy", "val_entropy_bonus"), "", ""),
        (("train_loss", "val_pinball"), "train_loss", ""),
        (("pinball", "val_pinball", "val_loss"), "", "val_loss"),
    ],
)
def test_what_bears_the_name_of_what_is_returned(names, train, val):
    found = followed(names)
    assert (found.train, found.val) == (train, val)


def test_what_is_not_returned_is_no_loss():
    assert followed(("pinball", "val_pinball"), penalty=0.01).val == ""


def test_few_validations_tell_nothing():
    assert followed(("pinball", "val_pinball"), validations=2).val == ""


@pytest.mark.parametrize(
    ("monitors", "metric"), [((), "val_missing_mse"), ((("val_mean_mse", "min"),), "val_mean_mse")]
)
def test_a_metric_that_never_moves_is_a_reference(monitors, metric):
    """What predicting the mean costs, logged beside what the model's predictions cost."""
    log = CurveLog(monitors=monitors)
    for epoch, error in enumerate((0.6, 0.4, 0.3, 0.25)):
        values = {"val_missing_mse": error, "val_mean_mse": 0.81, "val_loss": 2 * error}
        log.validated({name: torch.tensor(value) for name, value in values.items()}, 40 * epoch, epoch)
        log.arrive(1.0, wait=True)
    assert log.names.metric == log.validations.metric_name == metric
    assert log.validations.metrics == pytest.approx([0.6, 0.4, 0.3, 0.25] if not monitors else [0.81] * 4)


def test_names_that_say_it_go_first():
    names = ["ce", "val_ce", "val_loss"]
    assert beside(recognised(names), names, "ce").val == "val_loss"


class Named(pl.LightningModule):
    """Logs its loss under one name in training and others in validation."""

    def __init__(self, training, validation):
        super().__init__()
        self.net, self.training_name, self.validation_names = nn.Linear(4, 3), training, validation

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        if self.training_name:
            self.log(self.training_name, loss)
        return loss

    def validation_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        for place, name in enumerate(self.validation_names):
            self.log(name, loss + place)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(
    ("training", "validation", "found"),
    [
        ("", ["ce"], "ce"),
        ("tr_nll", ["va_nll", "va_auc"], "va_nll"),
        ("xe", ["xe_holdout", "top1_holdout"], "xe_holdout"),
        ("", ["loss"], "loss"),
        ("fit", ["recon_loss", "kl_loss"], ""),
        ("fit", ["spread"], ""),
        ("ce", ["val_loss", "held_out_ce"], "val_loss"),
    ],
)
def test_the_stage_tells_what_is_of_validation(training, validation, found):
    data = DataLoader(TensorDataset(torch.randn(32, 4), torch.arange(32) % 3), 8)
    diagnoser = CurveDiagnoser()
    trainer(diagnoser, max_epochs=3).fit(Named(training, validation), data, data)
    reading = diagnoser.session.record.last(CurveReading)
    assert (reading.validation.name if reading.validation is not None else "") == found
