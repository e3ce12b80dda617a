"""What ModeChecker does about what it finds, and that it leaves nothing behind."""

import contextlib
import inspect
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_debug import FaultFound, ModeChecker
from lightning_debug.probes.train_calls import TrainCalls
from tests.helpers import trainer
from tests.mode_programs import IGNORED_WARNINGS, Net, checked, data, only

pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED_WARNINGS]
SOURCE = Path(__file__).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Passing(pl.Callback):
    def __init__(self):
        self.modes = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.modes.append([name for name, module in pl_module.named_modules() if not module.training])


def test_fix_sets_the_culprits_back_and_nothing_else():
    class Mixed(Net):
        def __init__(self):
            super().__init__()
            self.frozen = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.2)).requires_grad_(False)

        def forward(self, inputs):
            return self.net(self.frozen(inputs))

    model, watch = Mixed(), Passing()
    model.frozen.eval()
    model.net.eval()
    found = only(checked(model, watch, action="fix"), "LD401")
    assert {"net.1", "net.3"} <= set(watch.modes[0])
    for modes in watch.modes[1:]:
        assert not {"net.1", "net.3"} & set(modes)
        assert {"frozen.1", "frozen.2"} <= set(modes)
    assert "ModeChecker puts them into train mode" in found.fix


class Sampling(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.eval()


def test_fix_follows_a_callback_that_does_it_every_step():
    sampling, watch = Sampling(), Passing()
    only(checked(Net(), sampling, watch, action="fix"), "LD401")
    for modes in watch.modes[3:]:
        assert not {"net.1", "net.3"} & set(modes)


def test_warn_changes_nothing():
    model, watch = Net(), Passing()
    model.net.eval()
    checked(model, watch)
    assert all(set(modes) == set(watch.modes[0]) for modes in watch.modes)


def test_raise_stops_the_fit():
    model = Net()
    model.eval()
    with pytest.raises(FaultFound, match="LD401 eval-mode-in-training") as caught:
        checked(model, action="raise")
    assert [item.code for item in caught.value.report.findings] == ["LD401"]
    assert inspect.unwrap(nn.Module.train) is nn.Module.train


def test_unknown_action():
    with pytest.raises(ValueError, match="action='repair' is not accepted; choose from warn, fix, raise"):
        ModeChecker(action="repair")


def test_nothing_is_left_behind():
    before = nn.Module.train
    hooks = dict(torch.nn.modules.module._global_forward_hooks)

    class Failing(Net):
        def training_step(self, batch, batch_idx):
            raise KeyError("no such thing")

    for model in (Net(), Failing()):
        model.eval()
        with contextlib.suppress(KeyError):
            checked(model)
        assert nn.Module.train is before
        assert dict(torch.nn.modules.module._global_forward_hooks) == hooks
        for module in model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks


def test_two_checkers_leave_nothing_behind():
    before = nn.Module.train
    model = Net()
    model.eval()
    first, second = ModeChecker(), ModeChecker()
    trainer(first, second, max_epochs=1).fit(model, data(), data(32))
    assert nn.Module.train is before
    assert [item.code for item in second.report.findings] == ["LD401"]


def test_watches_may_end_in_any_order():
    before = nn.Module.train
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)):
        watches = [TrainCalls() for _ in range(3)]
        for watch in watches:
            watch.start()
        for position in order:
            watches[position].stop()
        assert nn.Module.train is before
    lost = TrainCalls()
    lost.start()
    del lost
    assert nn.Linear(2, 2).eval().training is False
    other = TrainCalls()
    other.start()
    other.stop()
    assert nn.Module.train is before


def test_exception_tells_what_was_held_back():
    class Failing(Net):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.eval()
            if batch_idx == 1:
                raise KeyError("no such thing")

    checker = ModeChecker()
    with pytest.raises(KeyError):
        trainer(checker, max_epochs=1).fit(Failing(), data(), data(32))
    assert [item.code for item in checker.report.findings] == ["LD401"]
