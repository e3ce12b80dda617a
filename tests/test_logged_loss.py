"""Steps made by hand whose loss goes backward by itself: what they log is taken for it."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug.callbacks.curve_diagnoser import CurveDiagnoser
from lightning_debug.callbacks.loss_inspector import LossInspector
from lightning_debug.callbacks.lr_range_finder import LRRangeFinder
from lightning_debug.callbacks.non_finite_guard import NonFiniteGuard
from lightning_debug.evidence.curves import CurveReading, LossKind
from lightning_debug.evidence.lr_range import EarlyLosses
from lightning_debug.evidence.numbers import StepWindow
from tests.helpers import trainer


class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Linear(6, 3)
        self.losses = []

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.losses.append(float(loss.detach()))
        self.tell(loss)

    def tell(self, loss):
        self.log("train/loss", loss)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class ForTheEpochToo(Plain):
    def tell(self, loss):
        self.log_dict({"train_loss": loss, "train_accuracy": 0.5}, on_step=True, on_epoch=True)


class ForTheEpoch(Plain):
    def tell(self, loss):
        self.log("train_loss", loss, on_step=False, on_epoch=True)


class Two(Plain):
    def tell(self, loss):
        self.log_dict({"loss_a": loss, "loss_b": 2 * loss})


class Seldom(Plain):
    def tell(self, loss):
        if len(self.losses) % 2:
            self.log("train_loss", loss)


def recorded(kind):
    torch.manual_seed(0)
    inputs = torch.randn(320, 6)
    data = DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), 10)
    watching, model = [NonFiniteGuard(), LossInspector(), LRRangeFinder(), CurveDiagnoser()], kind()
    trainer(*watching, max_epochs=4).fit(model, data)
    return watching[0].session.record, model.losses


@pytest.mark.parametrize("kind", [Plain, ForTheEpochToo])
def test_what_is_logged_counts(kind):
    record, losses = recorded(kind)
    told = [value for window in record.of(StepWindow) for value in window.losses.get("loss", ())]
    assert told == pytest.approx(losses)
    assert record.last(LossKind).supervised
    assert record.last(CurveReading).training.steps == len(losses)
    assert max((list(item.losses) for item in record.of(EarlyLosses)), key=len) == pytest.approx(losses[:60])


@pytest.mark.parametrize("kind", [ForTheEpoch, Two])
def test_what_is_no_loss_of_one_batch_does_not(kind):
    record, _ = recorded(kind)
    assert not [value for window in record.of(StepWindow) for value in window.losses.get("loss", ())]
    assert record.last(CurveReading) is None or record.last(CurveReading).training is None


def test_a_value_counts_once():
    record, losses = recorded(Seldom)
    told = [value for window in record.of(StepWindow) for value in window.losses.get("loss", ()) if value is not None]
    assert told == pytest.approx(losses[::2])
