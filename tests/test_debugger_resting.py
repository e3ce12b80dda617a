"""The Debugger does not call hooks that rest, and calls them again when they are roused, and in the next fit."""

import pytest
import pytorch_lightning as pl

from lightning_debug import DebugCallback, Debugger
from lightning_debug import debugger as debugger_module
from lightning_debug.callbacks.lr_range_finder import LRRangeFinder
from lightning_debug.callbacks.metric_auditor import MetricAuditor
from lightning_debug.callbacks.overfit_batch_check import OverfitBatchCheck
from lightning_debug.callbacks.rank_monitor import RankMonitor
from lightning_debug.evidence import ProbeFailure
from tests.healthy import fit, make_loaders, make_model, make_trainer

START, END = "on_train_batch_start", "on_train_batch_end"


class Napping(DebugCallback):
    """Rests after the second batch of each epoch."""

    produces = (ProbeFailure,)

    def __init__(self):
        self.batches = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.rest()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append((trainer.current_epoch, batch_idx))
        if batch_idx == 1:
            self.rest(END)


def test_a_hook_rests_until_it_is_roused(monkeypatch):
    monkeypatch.setattr(debugger_module, "PARTS", (Napping,))
    debugger = Debugger(console=False)
    trainer, model = make_trainer(debugger), make_model()
    for _ in range(2):
        trainer.fit_loop.epoch_progress.reset()
        trainer.fit(model, *make_loaders())
    (part,) = debugger.parts
    assert part.batches == 2 * [(epoch, batch) for epoch in range(2) for batch in range(2)]


def test_a_hook_that_fails_is_called_three_times(monkeypatch):
    class Failing(Napping):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.batches.append(batch_idx)
            raise ValueError("ours")

    monkeypatch.setattr(debugger_module, "PARTS", (Failing,))
    debugger = Debugger(console=False, strict=False)
    fit(debugger)
    assert debugger.parts[0].batches == [0, 1, 2]


class Roster(pl.Callback):
    """Notes which parts are called when a batch begins and when it ends."""

    def __init__(self, debugger):
        self.debugger, self.seen = debugger, []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        known = self.debugger._calls
        self.seen.append({hook: {type(part) for part, _ in known[hook]} for hook in (START, END)})


@pytest.mark.parametrize("part", [MetricAuditor, OverfitBatchCheck, RankMonitor])
def test_what_is_done_once_an_epoch_is_not_asked_in_each_step(part):
    debugger = Debugger(console=False)
    roster = Roster(debugger)
    fit(debugger, roster)
    assert all(part in calls for calls in roster.seen[0].values())
    assert not any(part in calls for calls in roster.seen[2].values())
    assert any(part in calls for calls in roster.seen[4].values()) is (part is not OverfitBatchCheck)


def test_the_range_test_is_called_while_it_follows_the_losses():
    debugger = Debugger(console=False)
    roster = Roster(debugger)
    fit(debugger, roster, max_epochs=16)
    called = [LRRangeFinder in calls[END] for calls in roster.seen]
    assert called[0]
    assert not called[-1]
