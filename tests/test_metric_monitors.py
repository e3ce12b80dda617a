"""Monitors whose mode is the wrong one for what they monitor, and those whose mode only looks like it."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanSquaredError
from torchmetrics.classification import MulticlassAccuracy

from lightning_debug import MetricAuditor
from lightning_debug.callbacks._curve_log import monitors_of
from lightning_debug.evidence.selection import MonitoredValue
from lightning_debug.finding import Claim, Skip
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.helpers import QUIET

VALUES = [0.2, 0.5, 0.6, 0.9, 0.8]


class Told(pl.LightningModule):
    """Logs given values, one a validation; a metric object of accuracy or of errors beside them."""

    def __init__(self, name, values, *, plateau=None, on="validation"):
        super().__init__()
        self.net = nn.Linear(2, 3)
        self.name, self.values, self.plateau, self.on = name, values, plateau, on
        self.quality, self.miss = MulticlassAccuracy(3, average="micro"), MeanSquaredError()

    def training_step(self, batch, batch_idx):
        if self.on == "training":
            self.log(self.name, self.values[self.current_epoch], on_step=False, on_epoch=True)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        if self.on == "validation":
            self.log(self.name, self.values[self.current_epoch])
        right = int(10 * self.values[self.current_epoch])
        truth = torch.zeros(10, dtype=torch.long)
        guess = torch.where(torch.arange(10) < right, 0, 1)
        self.quality(guess, truth)
        self.log("quality", self.quality)
        self.miss(guess.float(), truth.float())
        self.log("miss", self.miss)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.0 if self.plateau is None else 0.1)
        if self.plateau is None:
            return optimizer
        name, mode = self.plateau
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": name}}


def run(tmp_path, name, *callbacks, values=VALUES, epochs=5, debug=None, **options):
    debug = debug or MetricAuditor()
    loader = DataLoader(TensorDataset(torch.randn(8, 2), torch.arange(8) % 3), batch_size=4)
    given = {**QUIET, "enable_checkpointing": True, "default_root_dir": tmp_path, "max_epochs": epochs}
    trainer = pl.Trainer(**given, callbacks=[debug, *callbacks])
    trainer.fit(Told(name, values, **options), loader, loader)
    return [item for item in debug.report.findings if item.code == "LD805"]


def test_a_checkpoint_that_keeps_the_lowest_accuracy_is_told(tmp_path):
    (found,) = run(tmp_path, "val_acc", pl.callbacks.ModelCheckpoint(tmp_path, monitor="val_acc"))
    assert "ModelCheckpoint takes the smallest val_acc for the best (mode='min')" in found.message
    assert "0.2 of epoch 0" in found.message
    assert "epoch 3 had 0.9" in found.message
    assert found.fix == 'Give it the other mode: ModelCheckpoint(monitor="val_acc", mode="max").'


def test_a_run_that_is_stopped_early_for_it_is_told(tmp_path):
    stop = pl.callbacks.EarlyStopping("valid/f1", patience=3)
    (found,) = run(tmp_path, "valid/f1", stop, values=[0.2, 0.5, 0.6, 0.7, 0.9, 0.9], epochs=6)
    assert stop.stopped_epoch == 3
    assert "EarlyStopping" in found.message
    assert found.measured["held"] == pytest.approx(0.2)


def test_a_plateau_schedule_is_told(tmp_path):
    (found,) = run(tmp_path, "val_auroc", plateau=("val_auroc", "min"))
    assert 'ReduceLROnPlateau(optimizer, mode="max")' in found.fix


def test_a_loss_of_which_the_largest_is_kept_is_told(tmp_path):
    keep = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val_loss", mode="max")
    (found,) = run(tmp_path, "val_loss", keep, values=[1.0, 0.5, 0.6, 0.4, 0.45])
    assert "takes the largest val_loss" in found.message


@pytest.mark.parametrize(("name", "mode", "right"), [("quality", "min", "max"), ("miss", "max", "min")])
def test_a_metric_object_says_which_side_is_better(tmp_path, name, mode, right):
    (found,) = run(tmp_path, "x", pl.callbacks.ModelCheckpoint(tmp_path / "a", monitor=name, mode=mode))
    assert "by torchmetrics' " in found.message
    assert not run(tmp_path, "x", pl.callbacks.ModelCheckpoint(tmp_path / "b", monitor=name, mode=right))


def test_a_value_that_training_logs_is_followed(tmp_path):
    stop = pl.callbacks.EarlyStopping("train_acc", patience=9, check_on_train_epoch_end=True)
    (found,) = run(tmp_path, "train_acc", stop, on="training")
    assert "train_acc" in found.message


@pytest.mark.parametrize(
    ("name", "mode", "values"),
    [
        ("val_acc", "max", VALUES),
        ("val_loss", "min", [1.0, 0.5, 0.4, 0.6, 0.7]),  # overfits
        ("val_loss", "max", [-9.0, -4.0, -2.0, -1.5, -1.0]),  # what they call a loss is maximised, and rises
        ("val_neg_mse", "max", [-9.0, -4.0, -2.0, -1.5, -1.0]),
        ("val_elbo", "max", [-9.0, -4.0, -2.0, -1.5, -1.0]),
        ("val_acc_gap", "min", VALUES),
        ("val_error_precision", "min", VALUES),
        ("val_acc", "min", [0.9, 0.8, 0.6, 0.5, 0.4]),  # an error under another name, for all that is known
        ("val_reward", "max", VALUES),
        ("val_score", "min", VALUES),
    ],
)
def test_what_only_looks_like_it_is_not_told(tmp_path, name, mode, values):
    keep = pl.callbacks.ModelCheckpoint(tmp_path, monitor=name, mode=mode)
    assert not run(tmp_path, name, keep, pl.callbacks.EarlyStopping(name, 9, mode=mode), values=values)


def test_a_checkpoint_that_keeps_nothing_decides_nothing(tmp_path):
    keep = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val_acc", save_top_k=0)
    assert not run(tmp_path, "val_acc", keep)


def test_a_metric_that_contradicts_its_name_is_not_judged():
    seen = MonitoredValue(name="val_acc", mode="min", user="ModelCheckpoint", count=9, lowest=0.1, highest=0.9)
    assert [type(item) for item in get("LD805").function(Record([seen]))] == [Skip]


def test_only_what_came_to_be_better_is_told():
    seen = MonitoredValue(
        name="val_acc", mode="min", user="A", better="max", count=2, lowest=0.1, highest=0.9, highest_at=1
    )
    assert not [item for item in get("LD805").function(Record([seen])) if isinstance(item, Claim)]


def test_curves_go_by_the_name_where_the_mode_contradicts_it():
    keep = pl.callbacks.ModelCheckpoint(monitor="val_acc")
    assert monitors_of([keep]) == [("val_acc", "max")]
    assert monitors_of([pl.callbacks.ModelCheckpoint(monitor="val_score")]) == [("val_score", "min")]
