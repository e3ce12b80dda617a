"""Values that are monitored or read and that nothing logs: who asked, why it is not there, and the edit."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import ErrorExplainer
from lightning_debug.explained import explain_error
from lightning_debug.registry import get
from tests.helpers import QUIET

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning warns of loaders and of what is not logged


class Logs(pl.LightningModule):
    """Logs one value of validation under a name."""

    def __init__(self, name="valid_loss", plateau=None):
        super().__init__()
        self.net = nn.Linear(2, 3)
        self.name, self.plateau = name, plateau

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log(self.name, nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        if self.plateau is None:
            return optimizer
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, **self.plateau}}


class Trains(pl.LightningModule):
    """Has no validation_step."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 3)

    training_step = Logs.training_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Returns(Logs):
    """Returns the value, as one did long ago."""

    def validation_step(self, batch, batch_idx):
        return {"val_loss": nn.functional.cross_entropy(self.net(batch[0]), batch[1])}


class ReadsIt(Logs):
    """Reads a value of validation where none is there."""

    def training_step(self, batch, batch_idx):
        seen = self.trainer.callback_metrics["val_loss"]
        return seen * super().training_step(batch, batch_idx)


class Misspells(Logs):
    """Reads another name than it logs."""

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            print(self.trainer.callback_metrics["val_accuracy"])


def loader():
    return DataLoader(TensorDataset(torch.randn(8, 2), torch.arange(8) % 3), batch_size=4)


def explained(tmp_path, model, *callbacks, val=1, **options):
    watch = ErrorExplainer()
    given = {**QUIET, "enable_checkpointing": True, "default_root_dir": tmp_path, "max_epochs": 3, **options}
    trainer = pl.Trainer(**given, accelerator="cpu", callbacks=[watch, *callbacks])
    with pytest.raises(Exception):  # noqa: B017 - whatever Lightning raises
        trainer.fit(model, loader(), [loader() for _ in range(val)] if val else None)
    (found,) = watch.report.findings
    return found


STOP = pl.callbacks.EarlyStopping
KEEP = pl.callbacks.ModelCheckpoint


@pytest.mark.parametrize("callback", [STOP, KEEP])
def test_another_name(tmp_path, callback):
    found = explained(tmp_path, Logs(), callback(monitor="val_loss"))
    assert (found.code, found.measured["cause"], found.subject) == ("LD121", "another-name", "val_loss")
    assert f"{callback.__name__} monitors 'val_loss', and it is logged as 'valid_loss'." in found.message
    assert f'{callback.__name__}(monitor="valid_loss")' in found.fix


def test_another_name_of_a_schedule(tmp_path):
    found = explained(tmp_path, Logs(plateau={"monitor": "val/loss"}))
    assert found.measured["cause"] == "another-name"
    assert '"monitor": "valid_loss"' in found.fix


def test_several_loaders(tmp_path):
    found = explained(tmp_path, Logs("val_loss"), STOP("val_loss"), val=2)
    assert found.measured["cause"] == "name-of-several-loaders"
    assert "val_loss/dataloader_idx_0" in found.fix
    assert "add_dataloader_idx=False" in found.fix


def test_a_schedule_that_steps_before_validation(tmp_path):
    found = explained(tmp_path, Logs("val_loss", {"monitor": "val_loss", "interval": "step"}))
    assert found.measured["cause"] == "plateau-each-step"
    assert '"interval": "epoch"' in found.fix


def test_a_schedule_that_steps_more_often_than_validation(tmp_path):
    found = explained(tmp_path, Logs("val_loss", {"monitor": "val_loss"}), check_val_every_n_epoch=2)
    assert found.measured["cause"] == "validated-rarely"
    assert '"frequency": 2' in found.fix


@pytest.mark.parametrize(
    ("model", "options", "cause", "told"),
    [
        (Trains, {}, "no-validation-no-step", "has no validation_step"),
        (Logs, {"val": 0}, "no-validation-no-data", "no validation data are given"),
        (Logs, {"limit_val_batches": 0}, "no-validation-limit", "limit_val_batches is 0"),
    ],
)
def test_no_validation(tmp_path, model, options, cause, told):
    found = explained(tmp_path, model(), STOP("val_loss", check_on_train_epoch_end=True), **options)
    assert found.measured["cause"] == cause
    assert told in found.message
    assert "or monitor a value that training logs" in found.fix


def test_a_value_that_is_returned(tmp_path):
    found = explained(tmp_path, Returns(), KEEP(monitor="val_loss"))
    assert found.measured["cause"] == "returned-and-not-logged"
    assert "validation_step holds that name" in found.message
    assert 'self.log("val_loss", value)' in found.fix


def test_a_value_of_which_nobody_knows(tmp_path):
    found = explained(tmp_path, Logs(), KEEP(monitor="score"))
    assert found.measured["cause"] == "not-logged"
    assert (
        "Logged are: valid_loss, train_loss." in found.message or "Logged are: train_loss, valid_loss." in found.message
    )


def test_a_value_that_is_read_too_early(tmp_path):
    found = explained(tmp_path, ReadsIt("val_loss"))
    assert found.measured["cause"] == "no-validation-not-yet"
    assert "trainer.callback_metrics['val_loss'] is read" in found.message
    assert found.at.stage == "train"


def test_a_value_that_is_read_under_another_name(tmp_path):
    found = explained(tmp_path, Misspells("val_acc"))
    assert found.measured["cause"] == "another-name"
    assert found.fix.startswith('Read trainer.callback_metrics["val_acc"]')


def test_a_key_error_of_something_else_is_not_told(tmp_path):
    class Other(Logs):
        def training_step(self, batch, batch_idx):
            return {"loss": 1}["val_loss"]

    watch = ErrorExplainer()
    trainer = pl.Trainer(**{**QUIET, "max_epochs": 1}, accelerator="cpu", callbacks=[watch])
    with pytest.raises(KeyError):
        trainer.fit(Other(), loader())
    assert not [item for item in watch.report.findings if item.code == "LD121"]


def test_a_pasted_traceback_is_told():
    text = (
        "RuntimeError: Early stopping conditioned on metric `val_acc` which is not available. Pass in or modify your "
        "`EarlyStopping` callback to use any of the following: `train_loss`, `val_loss`"
    )
    told = explain_error(text)
    assert told.startswith("error LD121 value-not-logged")
    assert "Logged are: train_loss, val_loss." in told


def test_a_plateau_that_waits_for_the_value_is_told_once():
    assert "LD604" in get("LD121").explains
