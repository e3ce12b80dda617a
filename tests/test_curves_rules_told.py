"""What rules about learning curves tell, and of which losses: epochs to keep, good fits, squares written by hand."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug.callbacks.curve_diagnoser import CurveDiagnoser
from lightning_debug.callbacks.loss_inspector import LossInspector
from lightning_debug.evidence.curves import (
    BestEpoch,
    CurveReading,
    LossKind,
    ReferenceLoss,
    Shift,
    TrainingCourse,
    TrainingLossInEval,
    ValidationCourse,
)
from lightning_debug.evidence.schedules import PlateauWatch
from lightning_debug.evidence.selection import EpochSelection, MonitoredValue
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.helpers import trainer


def claims(code, *evidence):
    return [item for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


def test_the_epoch_that_was_chosen_is_the_only_one_to_keep():
    """The choice knows scores and the epochs before a resume; a second epoch beside it would contradict it."""
    best = BestEpoch(epoch=6, reason="why", rule="loss", loss=0.3)
    reading = CurveReading(final=True, epochs=9, best=best)
    assert [claim.subject for claim in claims("LD714", reading)] == ["epoch 6"]
    chosen = EpochSelection(epoch=3, validations=9)
    (skip,) = get("LD714").function(Record([reading, chosen]))
    assert skip.reason == "EarlyStoppingSelector has chosen epoch 3 (LD716)"


SQUARES = {
    "power": (lambda one, two: ((one - two) ** 2).mean(), True),
    "square": (lambda one, two: (one - two).square().mean(), True),
    "reversed": (lambda one, two: torch.mean(torch.pow(two - one, 2)), True),
    "with a penalty": (lambda one, two: ((one - two) ** 2).mean() + 0.1 * one.abs().mean(), False),
    "fourth power": (lambda one, two: ((one - two) ** 4).mean(), False),
    "bootstrapped": (lambda one, two: ((one - (two + 0.9 * one.detach().roll(1, 0))) ** 2).mean(), False),
}


class Squares(pl.LightningModule):
    def __init__(self, loss):
        super().__init__()
        self.net, self.loss = nn.Linear(4, 1), loss

    def training_step(self, batch, batch_idx):
        return self.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05)


@pytest.mark.parametrize("name", SQUARES)
def test_a_mean_of_squares_written_by_hand_is_one_loss(name):
    loss, judged = SQUARES[name]
    torch.manual_seed(0)
    inputs, diagnoser = torch.randn(64, 4), CurveDiagnoser()
    train = DataLoader(TensorDataset(inputs, inputs[:, :1] + 1), 16)
    trainer(LossInspector(), diagnoser, max_epochs=2).fit(Squares(loss), train)
    kind = diagnoser.session.record.last(LossKind)
    assert kind.supervised is judged
    assert not judged or kind.function == "mse_loss"


def fit(train, val, neighbours):
    course = TrainingCourse(steps=290, span=290, start=2.3, end=train)
    seen = ValidationCourse(name="val_loss", count=8, first=2.3, end=val, noise=0.01)
    again = TrainingLossInEval(
        epoch=8, batches=16, train_mode=train, eval_mode=train, by_validation=train, error=0.02, val_batches=16
    )
    known = ReferenceLoss(function="cross_entropy", samples=768, baseline=2.3, neighbours=neighbours, error=0.01)
    reading = CurveReading(final=True, epochs=8, training=course, validation=seen)
    return LossKind(supervised=True), again, known, reading


@pytest.mark.parametrize(
    ("train", "val", "neighbours", "said"),
    [(0.3, 0.4, 0.25, True), (0.9, 0.9, 0.8, True), (0.9, 0.9, 0.2, False), (0.9, 0.3, 0.8, False)],
    ids=["low", "as low as neighbours", "neighbours far lower", "validation far lower"],
)
def test_a_good_fit_is_as_good_as_simple_methods_are(train, val, neighbours, said):
    assert bool(claims("LD708", *fit(train, val, neighbours))) is said


@pytest.mark.parametrize(("best", "epoch"), [(10, 10), (None, 9), (14, 14)])
def test_one_epoch_is_named_to_keep(best, epoch):
    course = ValidationCourse(
        name="val_loss", count=30, epochs=(0, 29), first=1.4, lowest=0.6, lowest_epoch=9, lowest_between=(8, 11),
        end=1.1, noise=0.02, rise=Shift(amount=0.5, error=0.02), all_above=True, train_at_lowest=0.4, train_end=0.05,
        train_since=Shift(amount=-0.35, error=0.01),
    )  # fmt: skip
    known = None if best is None else BestEpoch(epoch=best, reason="", rule="metric and loss")
    (told,) = claims("LD707", CurveReading(final=True, epochs=30, validation=course, best=known))
    assert f"weights of epoch {epoch}" in told.fix


@pytest.mark.parametrize("watched", [True, False])
def test_a_plateau_of_the_wrong_mode_is_told_once(watched):
    seen = MonitoredValue(
        name="val_loss", mode="max", user="ReduceLROnPlateau", better="min", known_by="its name", count=9, lowest=0.3,
        highest=1.9, lowest_at=8, highest_at=0,
    )  # fmt: skip
    watch = PlateauWatch(
        scheduler="ReduceLROnPlateau", monitor="val_loss", mode="max", direction="min", value=1.9, epochs=9
    )
    assert bool(claims("LD805", seen, *[watch] * watched)) is not watched
    assert bool(claims("LD604", *[watch] * watched)) is watched


@pytest.mark.parametrize(("lowest", "alien"), [(0.68, False), (0.9, False), (40.0, True)])
def test_a_validation_loss_far_above_the_first_one_speaks_of_other_data(lowest, alien):
    """What overfits begins where training begins: a loss that never came near it is one of other targets or inputs."""
    validation = ValidationCourse(name="val_loss", count=20, first=60.0, lowest=lowest, end=45.0, noise=0.02)
    course = TrainingCourse(steps=400, start=0.7, end=0.01)
    again = TrainingLossInEval(epoch=19, batches=5, train_mode=0.01, eval_mode=0.01, by_validation=0.01, error=0.01)
    reading = CurveReading(final=True, epochs=20, training=course, validation=validation)
    [found] = claims("LD706", LossKind(supervised=True), again, reading)
    assert ("inputs and targets" in found.fix) is alien
    assert "-" not in found.message.split("began with")[1]
