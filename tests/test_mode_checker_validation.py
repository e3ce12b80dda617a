"""Train mode in validation and test (LD402), drifting batch-norms (LD403), dropout that ignores the mode (LD404)."""

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


class FineTuned(Net):
    """A head on a frozen network with batch-norms, which is in ``mode``."""

    def __init__(self, training=True):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.backbone.requires_grad_(False)
        self.backbone.train(training)

    def forward(self, inputs):
        return self.net(self.backbone(inputs))


@pytest.mark.parametrize("no_grad", [False, True])
def test_frozen_batch_norms_drift(no_grad):
    class Model(FineTuned):
        def forward(self, inputs):
            with torch.set_grad_enabled(not no_grad and torch.is_grad_enabled()):
                features = self.backbone(inputs)
            return self.net(features)

    found = only(checked(Model()), "LD403")
    assert found.severity == "warning"
    assert found.subject == "backbone"
    assert "2 batch-norms with frozen weights (2 BatchNorm1d in `backbone`)" in found.message
    assert "within 4 steps their running statistics are updated 4 times" in found.message


def test_flat_network_whose_last_layer_is_trained():
    model = Net()
    model.net[0].requires_grad_(False)
    model.net[1].requires_grad_(False)
    found = only(checked(model), "LD403")
    assert found.measured["modules"] == ("net.1",)


def test_old_recipe_flips_frozen_batch_norms():
    class OldRecipe(FineTuned):
        def on_validation_model_train(self):
            self.trainer.model.train()

    found = only(checked(OldRecipe(training=False)), "LD403")
    assert "OldRecipe.on_validation_model_train puts every module into train mode" in found.message
    assert "Delete OldRecipe.on_validation_model_train" in found.fix
    late = only(checked(OldRecipe(training=False), num_sanity_val_steps=0, max_epochs=3), "LD403")
    assert late.at.step > 6


class Functional(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.linear = kind, nn.Linear(8, 8)

    def forward(self, inputs):
        x = self.linear(inputs)
        if self.kind == "default":
            return F.dropout(x, 0.3)  # default
        if self.kind == "keyword":
            return F.dropout(x, p=0.3, training=True)  # keyword
        if self.kind == "torch":
            return torch.dropout(x, 0.3, True)  # torch
        if self.kind == "channels":
            return F.dropout1d(x[:, None], 0.3)[:, 0]  # channels
        if self.kind == "alpha":
            return F.alpha_dropout(x, 0.3, training=True)  # alpha
        x = x[:, None]
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.3)[:, 0]  # attention


@pytest.mark.parametrize("val", [True, None], ids=["val", "no-val"])
@pytest.mark.parametrize("kind", ["default", "keyword", "torch", "channels", "alpha", "attention"])
def test_functional_dropout(kind, val):
    class Model(Net):
        def __init__(self):
            super().__init__()
            self.part = Functional(kind)

        def forward(self, inputs):
            return self.net(self.part(inputs))

    found = only(checked(Model(), val=val), "LD404")
    assert found.subject.endswith(line(kind))
    assert "`part` (Functional) drops values with probability 0.3 in eval mode" in found.message
    assert found.measured["probability"] == 0.3


def helper(values):
    return F.dropout(values)  # helper


def test_dropout_in_a_function_of_the_module():
    class Model(Net):
        def forward(self, inputs):
            return self.net(helper(inputs))

    found = only(checked(Model()), "LD404")
    assert found.subject.endswith(line("helper"))
    assert "Model drops values with probability 0.5" in found.message


def test_dropout_is_not_looked_for_where_nothing_mentions_it(monkeypatch):
    import lightning_debug.experiments.dropout_in_eval as experiment

    monkeypatch.setattr(experiment, "isolated", None)
    report = checked(Net())
    assert not report.findings
    assert not report.skips


def test_unrepeatable_step_is_said():
    class Odd(Net):
        def __init__(self):
            super().__init__()
            self.generator = (number for number in range(10**6))

        def forward(self, inputs):
            return self.net(F.dropout(inputs, 0.1, training=next(self.generator) >= 0))

    report = checked(Odd())
    assert not report.findings
    assert [skip.code for skip in report.skips] == ["LD404"]
