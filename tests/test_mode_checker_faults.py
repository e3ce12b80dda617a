"""Every way in which modules come to train in eval mode, each named with its culprit and its moment (LD401)."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from tests.mode_programs import IGNORED_WARNINGS, Net, checked, data, only

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]
SOURCE = Path(__file__).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def line(mark: str) -> str:
    """``test_mode_checker_faults.py:31`` of the line that ends with ``# mark``."""
    found = [number for number, text in enumerate(SOURCE.splitlines(), 1) if text.endswith(f"# {mark}")]
    assert len(found) == 1, mark
    return f"{Path(__file__).name}:{found[0]}"


@pytest.mark.parametrize("val", [True, None], ids=["val", "no-val"])
def test_whole_model_before_fit(val):
    model = Net()
    model.eval()
    found = only(checked(model, val=val), "LD401")
    assert found.subject == "Net"
    assert "2 of 2 modules" in found.message
    assert "`net.1` (BatchNorm1d)" in found.message
    assert "`net.3` (Dropout)" in found.message
    assert "is in eval mode when trainer.fit is called" in found.message
    assert found.at.step == 0


def test_part_before_fit():
    class Two(Net):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 8), nn.Dropout(0.2))

        def forward(self, inputs):
            return self.net(self.encoder(inputs))

    model = Two()
    model.encoder.eval()
    found = only(checked(model), "LD401")
    assert found.subject == "encoder"
    assert "2 of 4 modules" in found.message
    assert "2 Dropout in `encoder`" in found.message


def test_dropout_behind_a_frozen_network():
    class Head(Net):
        def __init__(self):
            super().__init__()
            self.frozen = nn.Linear(8, 8).requires_grad_(False)
            self.net = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 2)).eval()

        def forward(self, inputs):
            return self.net(self.frozen(inputs))

    assert only(checked(Head()), "LD401").subject == "net"


class Hooked(Net):
    """Calls ``eval`` in the hook that is asked for."""

    def __init__(self, hook):
        super().__init__()
        self.hook = hook

    def here(self, hook):
        if hook == self.hook:
            self.net.eval()  # hooked

    def setup(self, stage):
        self.here("setup")

    def on_fit_start(self):
        self.here("on_fit_start")

    def on_train_start(self):
        self.here("on_train_start")

    def on_train_epoch_start(self):
        self.here("on_train_epoch_start")

    def on_train_batch_start(self, batch, batch_idx):
        self.here("on_train_batch_start")

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.here("training_step")
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.here("on_train_batch_end")

    def on_train_epoch_end(self):
        self.here("on_train_epoch_end")


HOOKS = [
    "setup",
    "on_fit_start",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "training_step",
    "on_train_batch_end",
    "on_train_epoch_end",
]


@pytest.mark.parametrize("val", [True, None], ids=["val", "no-val"])
@pytest.mark.parametrize("hook", HOOKS)
def test_hook_of_the_module(hook, val):
    found = only(checked(Hooked(hook), val=val), "LD401")
    assert f"Hooked.{hook} calls .eval()" in found.message
    assert found.subject.endswith(line("hooked"))
    assert "net.1" in found.message
    assert found.measured["modules"] == ("net.1", "net.3")
    late = {"on_train_epoch_end": 6}.get(hook, 0)
    assert late <= found.at.step <= late + 2
    assert ("Lightning puts that mode back after every validation" in found.message) == bool(val)


class Sampling(pl.Callback):
    """Samples from the model, and forgets to put it back."""

    def __init__(self, hook, first=0):
        self.hook, self.first, self.seen = hook, first, 0

    def sample(self, model):
        self.seen += 1
        if self.seen > self.first:
            model.eval()  # sampling
            with torch.no_grad():
                model(torch.randn(4, 8))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.hook == "on_train_batch_start":
            self.sample(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.hook == "on_train_batch_end":
            self.sample(pl_module)

    def on_train_epoch_end(self, trainer, pl_module):
        if self.hook == "on_train_epoch_end":
            self.sample(pl_module)


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_train_batch_end", "on_train_epoch_end"])
def test_callback(hook, order):
    callback = Sampling(hook)
    report = checked(Net(), *[callback] * (order == "after"), before=[callback] * (order == "before"))
    found = only(report, "LD401")
    assert f"Sampling.{hook} calls .eval()" in found.message
    assert found.subject.endswith(line("sampling"))


@pytest.mark.parametrize("order", ["before", "after"])
def test_callback_that_begins_late(order):
    callback = Sampling("on_train_batch_end", first=30)
    options = {"max_epochs": 1, "train": data(16 * 60)}
    report = checked(Net(), *[callback] * (order == "after"), before=[callback] * (order == "before"), **options)
    found = only(report, "LD401")
    assert "Sampling.on_train_batch_end calls .eval()" in found.message
    assert found.subject.endswith(line("sampling"))
    assert "step 3" in found.measured["in_eval_mode_since"]


class Once(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 30:
            pl_module.eval()  # once


def test_callback_that_does_it_once_and_late():
    found = only(checked(Net(), Once(), max_epochs=1, train=data(16 * 60)), "LD401")
    assert "Once.on_train_batch_end sets eval mode" in found.message
    assert found.subject.endswith(line("once"))
    assert 30 <= found.at.step <= 32


def test_training_step_that_does_it_once_and_late():
    class Late(Net):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if self.global_step == 30:
                self.training = self.net.training = False
                for module in self.net:
                    module.training = False
            return loss

    found = only(checked(Late(), max_epochs=1, train=data(16 * 60)), "LD401")
    assert "they leave train mode in training_step" in found.message
    assert 30 <= found.at.step <= 32


def test_lightning_restores_what_a_callback_left_before_validation():
    class BeforeValidation(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 5:
                pl_module.eval()  # before validation

    found = only(checked(Net(), BeforeValidation(), max_epochs=3), "LD401")
    assert "BeforeValidation.on_train_batch_end" in found.message
    assert found.subject.endswith(line("before validation"))
    assert "Lightning puts that mode back after every validation" in found.message


def test_on_validation_model_train_overridden_with_pass():
    class Override(Net):
        def on_validation_model_train(self):  # override
            pass

    found = only(checked(Override()), "LD401")
    assert "Override.on_validation_model_train is overridden" in found.message
    assert found.subject.endswith(line("override"))


def test_on_validation_model_train_overridden_with_pass_and_no_sanity_check():
    class Override(Net):
        def on_validation_model_train(self):
            pass

    found = only(checked(Override(), num_sanity_val_steps=0, max_epochs=3), "LD401")
    assert "Override.on_validation_model_train is overridden" in found.message
    assert found.at.step == 6


def test_module_renamed_in_validation():
    class Renaming(Net):
        def forward(self, inputs):
            return self.renamed(inputs) if hasattr(self, "renamed") else self.net(inputs)

        def on_validation_epoch_end(self):
            if not self.trainer.sanity_checking and not hasattr(self, "renamed"):
                self.renamed = nn.Sequential(*self.net.children())
                self.renamed.eval()  # renamed
                del self.net

    found = only(checked(Renaming(), max_epochs=3), "LD401")
    assert "renamed.1" in found.message
    assert "Renaming.on_validation_epoch_end calls .eval()" in found.message
    assert found.at.step == 6


@pytest.mark.parametrize("hook", ["on_validation_epoch_end", "on_validation_end"])
def test_eval_at_the_end_of_validation_is_put_back(hook):
    model = type("Ending", (Net,), {hook: lambda self: self.eval() and None})()
    assert not checked(model).findings
