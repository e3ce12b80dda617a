"""EarlyStoppingSelector under a real Trainer: it stops, it keeps the right weights, it resumes exactly."""

import math

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import EarlyStoppingSelector
from lightning_debug.callbacks import early_stopping_selector
from tests.helpers import pl, trainer


class Scripted(pl.LightningModule):
    """Logs given curves; its one weight holds the number of the epoch."""

    def __init__(self, losses=(), metrics=(), names=("val_loss", "val_acc")):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.losses, self.metrics, self.names = losses, metrics, names

    def training_step(self, batch, batch_idx):
        return 0.0 * self.weight.sum()

    def on_train_epoch_start(self):
        with torch.no_grad():
            self.weight.fill_(float(self.current_epoch))

    def validation_step(self, batch, batch_idx):
        for name, values in zip(self.names, (self.losses, self.metrics), strict=True):
            if len(values):
                self.log(name, float(values[min(self.current_epoch, len(values) - 1)]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader():
    return DataLoader(TensorDataset(torch.zeros(4, 1)), batch_size=4)


def fit(model, selector, *callbacks, epochs=40, **options):
    watch = trainer(selector, *callbacks, max_epochs=epochs, **options)
    watch.fit(model, loader(), loader(), ckpt_path=options.get("ckpt_path"))
    return watch


RISING = [1.0, 0.6, 0.4, 0.3, 0.28, *[0.3 + 0.05 * step for step in range(35)]]
LEARNING = [0.3, 0.6, 0.8, 0.86, 0.87, *[0.87] * 35]


def test_it_stops_and_puts_the_chosen_weights_back():
    model, selector = Scripted(RISING, LEARNING), EarlyStoppingSelector(patience=6)
    watch = fit(model, selector)
    assert watch.current_epoch < 20
    assert selector.stopped_epoch is not None
    assert 3 <= selector.best_epoch <= 6
    assert model.weight.item() == selector.best_epoch
    (finding,) = selector.report.findings
    assert finding.code == "LD716"
    assert finding.measured["restored"]


def test_a_metric_that_goes_on_rising_is_followed_by_the_lowest_loss_only_within_its_noise():
    model = Scripted(RISING, [0.3 + 0.01 * epoch for epoch in range(40)])
    selector = EarlyStoppingSelector(patience=6)
    fit(model, selector)
    assert selector.best_epoch <= 7


def test_one_lucky_epoch_is_not_chosen():
    generator = torch.Generator().manual_seed(0)
    losses = [1 / (1 + epoch) + 0.2 for epoch in range(40)]
    metrics = [1 - 1 / (2 + epoch) + 0.004 * torch.randn(1, generator=generator).item() for epoch in range(40)]
    metrics[6] += 0.1
    selector = EarlyStoppingSelector(patience=20)
    fit(Scripted(losses, metrics), selector)
    assert selector.best_epoch > 15


def test_it_only_chooses_where_it_shall_not_stop():
    model, selector = Scripted(RISING, LEARNING), EarlyStoppingSelector(patience=3, stop=False)
    assert fit(model, selector).current_epoch == 40
    assert selector.stopped_epoch is None
    assert model.weight.item() == selector.best_epoch < 8


def test_without_restoring_the_last_weights_stay():
    model, selector = Scripted(RISING, LEARNING), EarlyStoppingSelector(patience=4, restore=False)
    watch = fit(model, selector)
    assert model.weight.item() == watch.current_epoch - 1
    assert selector.best_epoch < 8


@pytest.mark.parametrize("names", [("valid/nll", "valid/rmse"), ("dev_loss", "dev_error")])
def test_smaller_is_better_by_name(names):
    losses = [1.0, 0.5, 0.3, *[0.3] * 37]
    selector = EarlyStoppingSelector(patience=5)
    fit(Scripted(losses, [1.0, 0.7, 0.5, 0.4, *[0.4 + 0.02 * step for step in range(36)]], names), selector)
    assert 2 <= selector.best_epoch <= 6


def test_loss_alone_and_metric_alone():
    for model in (Scripted(RISING, ()), Scripted((), [*LEARNING[:6], *[0.87 - 0.01 * step for step in range(34)]])):
        selector = EarlyStoppingSelector(patience=5)
        fit(model, selector)
        assert 3 <= selector.best_epoch <= 8
        assert selector.stopped_epoch is not None


def test_values_that_are_not_finite_stop_it_in_the_end():
    model, selector = Scripted([1.0, 0.5, *[math.nan] * 38], ()), EarlyStoppingSelector(nan_patience=4)
    assert fit(model, selector).current_epoch == 6
    assert model.weight.item() == 1
    gaps = Scripted([1.0, math.nan, 0.5, math.nan, *[0.4] * 36], ())
    assert fit(gaps, EarlyStoppingSelector(nan_patience=2, patience=4)).current_epoch > 6


def test_disk_holds_four_copies_of_a_large_model_and_none_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(early_stopping_selector, "BUDGET", 16)
    seen = []

    class Count(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append(len(list(tmp_path.rglob("weights_*.pt"))))

    model, selector = Scripted(RISING, LEARNING), EarlyStoppingSelector(patience=6, keep="disk")
    fit(model, selector, Count(), default_root_dir=str(tmp_path))
    assert max(seen) <= 4
    assert model.weight.item() == selector.best_epoch
    assert not list(tmp_path.rglob("weights_*.pt"))


def test_beside_a_model_checkpoint_it_names_the_file(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    selector = EarlyStoppingSelector(patience=6)
    fit(Scripted(RISING, LEARNING), selector, checkpoint, enable_checkpointing=True)
    assert selector.best_path.endswith(f"epoch={selector.best_epoch}.ckpt")


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_it_resumes_exactly(tmp_path):
    whole = EarlyStoppingSelector(patience=6)
    reference = fit(Scripted(RISING, LEARNING), whole)
    checkpoint = ModelCheckpoint(tmp_path / "half", filename="half")
    first = trainer(EarlyStoppingSelector(patience=6), checkpoint, max_epochs=6, enable_checkpointing=True)
    first.fit(Scripted(RISING, LEARNING), loader(), loader())
    model, second = Scripted(RISING, LEARNING), EarlyStoppingSelector(patience=6)
    again = trainer(second, ModelCheckpoint(tmp_path / "half"), max_epochs=40, enable_checkpointing=True)
    again.fit(model, loader(), loader(), ckpt_path=tmp_path / "half" / "half.ckpt")
    assert (again.current_epoch, second.best_epoch) == (reference.current_epoch, whole.best_epoch)
    assert model.weight.item() == whole.best_epoch


def test_a_run_without_validation_is_left_alone():
    selector = EarlyStoppingSelector(monitor="val_acc")
    watch = trainer(selector, max_epochs=2, limit_val_batches=0)
    with pytest.warns(UserWarning, match=r"EarlyStoppingSelector has chosen no epoch: 'val_acc' was not logged"):
        watch.fit(Scripted(RISING, LEARNING), loader(), loader())
    assert watch.current_epoch == 2
    assert selector.best_epoch is None
    assert "'val_acc' was not logged" in next(skip.reason for skip in selector.report.skips if skip.code == "LD716")


def test_min_epochs_is_kept():
    selector = EarlyStoppingSelector(patience=1, min_epochs=15)
    assert fit(Scripted(RISING, LEARNING), selector).current_epoch >= 15


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"patience": 0}, "patience=0 is not accepted; give a whole number from 1 on"),
        ({"mode": "best"}, "mode='best' is not accepted; choose from min, max"),
        ({"keep": "cloud"}, "keep='cloud' is not accepted; choose from memory, disk"),
        ({"nan_patience": 1.5}, "nan_patience=1.5 is not accepted; give a whole number"),
    ],
)
def test_bad_arguments_are_named(arguments, told):
    with pytest.raises(ValueError, match=told):
        EarlyStoppingSelector(**arguments)
