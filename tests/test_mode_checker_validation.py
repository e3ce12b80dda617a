"""Train mode in validation and in test, each with its culprit (LD402)."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug import FaultFound, ModeChecker
from tests.helpers import trainer
from tests.mode_programs import IGNORED_WARNINGS, Net, checked, data, only

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]
SOURCE = Path(__file__).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def line(mark: str) -> str:
    found = [number for number, text in enumerate(SOURCE.splitlines(), 1) if text.endswith(f"# {mark}")]
    assert len(found) == 1, mark
    return f"{Path(__file__).name}:{found[0]}"


class Training(Net):
    """Calls ``train`` in the hook that is asked for."""

    def __init__(self, hook):
        super().__init__()
        self.hook = hook

    def here(self, hook):
        if hook == self.hook:
            self.train()  # trains

    def on_validation_start(self):
        self.here("on_validation_start")

    def on_validation_epoch_start(self):
        self.here("on_validation_epoch_start")

    def on_validation_batch_start(self, batch, batch_idx, dataloader_idx=0):
        self.here("on_validation_batch_start")

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.here("validation_step")
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):
        self.here("on_validation_batch_end")

    def test_step(self, batch, batch_idx):
        self.here("test_step")
        self.log("test_loss", F.cross_entropy(self(batch[0]), batch[1]))


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize(
    "hook",
    [
        "on_validation_start",
        "on_validation_epoch_start",
        "on_validation_batch_start",
        "validation_step",
        "on_validation_batch_end",
    ],
)
def test_train_mode_in_validation(hook, sanity):
    found = only(checked(Training(hook), num_sanity_val_steps=sanity), "LD402")
    assert f"Training.{hook} calls .train()" in found.message
    assert found.subject.endswith(line("trains"))
    assert "2 of 2 modules" in found.message
    assert "`net.1` (BatchNorm1d)" in found.message
    assert "learns running statistics from validation data (1 update in one batch)" in found.message
    assert found.at.stage == ("sanity" if sanity else "validate")


def test_several_loaders():
    found = only(checked(Training("validation_step"), val=[data(32), data(32)]), "LD402")
    assert "net.3" in found.message


def test_callback_trains_late_in_validation():
    class Late(pl.Callback):
        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            if trainer.current_epoch == 5 and batch_idx == 3:
                pl_module.train()  # late

    found = only(checked(Net(), Late(), val=data(96), max_epochs=7), "LD402")
    assert "Late.on_validation_batch_start sets train mode" in found.message
    assert found.subject.endswith(line("late"))
    assert found.at.epoch == 5


@pytest.mark.parametrize("entry", ["validate", "test"])
def test_without_a_fit(entry):
    checker = ModeChecker()
    model = Training("validation_step" if entry == "validate" else "test_step")
    getattr(trainer(checker), entry)(model, data(48), verbose=False)
    found = only(checker.report, "LD402")
    assert ("learns running statistics from test data" in found.message) == (entry == "test")


@pytest.mark.parametrize("entry", ["validate", "test"])
def test_healthy_without_a_fit(entry):
    checker = ModeChecker()
    getattr(trainer(checker), entry)(Training(""), data(48), verbose=False)
    assert not checker.report.findings


def test_on_validation_model_eval_overridden_with_pass():
    class Override(Net):
        def on_validation_model_eval(self):  # eval override
            pass

    found = only(checked(Override()), "LD402")
    assert "Override.on_validation_model_eval is overridden" in found.message
    assert found.subject.endswith(line("eval override"))


def test_loss_in_train_mode_learns_from_validation_data():
    class LossInTrainMode(Net):
        def validation_step(self, batch, batch_idx):
            self.net.train()  # for the loss
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.net.eval()
            self.log("val_loss", loss)

    found = only(checked(LossInTrainMode()), "LD402")
    assert found.measured["modules"] == ("net.1",)
    assert found.subject.endswith(line("for the loss"))


def test_eval_is_called_before_and_train_after_each_forward():
    class Careful(Net):
        def validation_step(self, batch, batch_idx):
            self.eval()
            super().validation_step(batch, batch_idx)
            self.train()

    assert not checked(Careful(), val=data(64)).findings


def test_fix_in_validation():
    class Watch(pl.Callback):
        def __init__(self):
            self.modes = []

        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            self.modes.append((trainer.sanity_checking, batch_idx, pl_module.net[1].training))

    watch = Watch()
    found = only(checked(Training("on_validation_start"), watch, val=data(64), action="fix"), "LD402")
    assert "ModeChecker puts them into eval mode" in found.fix
    assert watch.modes[0] == (True, 0, True)
    assert not any(mode for _, index, mode in watch.modes if index)


def test_raise_in_validation():
    with pytest.raises(FaultFound, match="LD402"):
        checked(Training("on_validation_start"), action="raise")


def test_no_validation_is_said():
    report = checked(Net(), val=None)
    assert [(skip.code, skip.reason) for skip in report.skips] == [("LD402", "no validation ran")]


@pytest.mark.parametrize("norm", [True, False])
def test_monte_carlo_by_name(norm):
    class Uncertain(Net):
        def __init__(self):
            super().__init__()
            if not norm:
                self.net[1] = nn.Identity()

        def mc_predict(self, inputs):
            self.train()
            return torch.stack([self(inputs) for _ in range(3)]).mean(0)

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", F.cross_entropy(self.mc_predict(batch[0]), batch[1]))

    report = checked(Uncertain())
    assert [item.measured["modules"] for item in report.findings] == [("net.1",)] * norm


@pytest.mark.parametrize("samples", [1, 5])
def test_monte_carlo_by_its_draws(samples):
    class Sampled(Net):
        def __init__(self):
            super().__init__()
            self.net[1] = nn.Identity()

        def on_validation_start(self):
            self.net.train()

        def validation_step(self, batch, batch_idx):
            scores = torch.stack([self.net(batch[0]) for _ in range(samples)])
            self.log("val_variance", scores.var(0, correction=0).mean())

    assert len(checked(Sampled()).findings) == (samples == 1)
