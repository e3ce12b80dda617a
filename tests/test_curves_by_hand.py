"""Learning curves of steps made by hand: what is one loss all through, and what several losses come to."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug.callbacks.curve_diagnoser import CurveDiagnoser
from lightning_debug.callbacks.loss_inspector import LossInspector
from lightning_debug.callbacks.optimizer_inspector import OptimizerInspector
from lightning_debug.curves.kind import loss_kind_by_hand
from lightning_debug.evidence.curves import CurveReading, LossKind, TrainingCourse, TrainingLossInEval
from lightning_debug.evidence.loss import LossCall, LossGraph, Operand
from lightning_debug.evidence.lr_range import EarlyLosses, LRContest, LRRange
from lightning_debug.evidence.schedules import ScheduleInUse, ScheduleProgress
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.rules.ld601_learning_rate_too_high import learning_rate_too_high
from lightning_debug.rules.ld604_scheduler_at_wrong_interval import scheduler_at_wrong_interval
from tests.helpers import trainer


class ByHand(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net, self.other, self.seen = nn.Linear(4, 3), nn.Linear(4, 3), []

    def loss(self, batch):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.seen.append(float(loss.detach()))
        return loss

    def update(self, *losses):
        for loss in losses:
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.optimizers().step()

    def training_step(self, batch, batch_idx):
        self.update(self.loss(batch))

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Accumulated(ByHand):
    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(batch) / 2)
        if batch_idx % 2:
            self.optimizers().step()
            self.optimizers().zero_grad()


class Chunks(ByHand):
    def training_step(self, batch, batch_idx):
        for part in zip(*(item.chunk(2) for item in batch), strict=True):
            self.manual_backward(self.loss(part) / 2)
        self.optimizers().step()
        self.optimizers().zero_grad()


class Plain(ByHand):
    """``loss.backward()`` as in plain torch."""

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.optimizers().zero_grad()
        loss.backward()
        self.optimizers().step()
        return {"loss": loss}


class Sharp(ByHand):
    """Sharpness-aware: up along the gradient, then down by the gradient there."""

    def training_step(self, batch, batch_idx):
        self.manual_backward(self.loss(batch))
        steps = [0.05 * item.grad for item in self.net.parameters()]
        with torch.no_grad():
            for item, step in zip(self.net.parameters(), steps, strict=True):
                item.add_(step)
        self.optimizers().zero_grad()
        self.manual_backward(self.loss(batch))
        with torch.no_grad():
            for item, step in zip(self.net.parameters(), steps, strict=True):
                item.sub_(step)
        self.optimizers().step()


class Search(ByHand):
    def training_step(self, batch, batch_idx):
        def closure():
            self.optimizers().zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            return loss

        self.optimizers().step(closure)

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.net.parameters(), 0.1, max_iter=3)


class TwoParts(ByHand):
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self):
        return [torch.optim.SGD([item], 0.1) for item in self.net.parameters()]


class Against(TwoParts):
    """One optimizer makes large what the other makes small."""

    def configure_optimizers(self):
        return [torch.optim.SGD([self.net.weight], 0.1), torch.optim.SGD([self.net.bias], 0.1, maximize=True)]


class Turns(ByHand):
    """Each batch has the loss of another player."""

    def training_step(self, batch, batch_idx):
        made = torch.zeros_like(batch[1])
        self.update(self.loss(batch) if batch_idx % 2 else F.cross_entropy(self.net(batch[0]), made))


class OneByOne(ByHand):
    def training_step(self, batch, batch_idx):
        self.update(self.loss(batch), F.mse_loss(self.other(batch[0]), batch[0][:, :3]))


class LaterMore(ByHand):
    """After the first epoch the same loss goes backward more often."""

    def training_step(self, batch, batch_idx):
        self.update(*(self.loss(batch) for _ in range(1 + self.current_epoch)))


class Adversary(ByHand):
    def training_step(self, batch, batch_idx):
        scores = self.net(batch[0])[:, 0]
        self.update(F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores)))


ONE_LOSS = {ByHand: 1.0, Accumulated: 0.5, Chunks: 0.5, Plain: 1.0, Sharp: 1.0, Search: 1.0, TwoParts: 1.0}
SEVERAL = (Against, Turns, OneByOne, LaterMore, Adversary)
AT_ONCE = (Chunks, Sharp, Turns, LaterMore)


def _spread(kinds):
    return [pytest.param(kind, marks=() if kind in AT_ONCE else pytest.mark.slow) for kind in kinds]


def _fitted(kind, *callbacks, epochs=2, **options):
    torch.manual_seed(0)
    inputs = torch.randn(64, 4)
    data = TensorDataset(inputs, inputs[:, :3].argmax(1))
    model, diagnoser = kind(), CurveDiagnoser()
    watching = [LossInspector(), diagnoser, *callbacks]
    trainer(*watching, max_epochs=epochs, **options).fit(model, DataLoader(data, 16), DataLoader(data, 32))
    return model, diagnoser.session.record


@pytest.mark.parametrize("kind", _spread(ONE_LOSS))
def test_one_loss_is_followed_in_its_own_units(kind):
    model, record = _fitted(kind)
    found, reading = record.last(LossKind), record.last(CurveReading)
    assert (found.supervised, found.function, found.share) == (True, "cross_entropy", ONE_LOSS[kind])
    passes = len(model.seen) // 8
    known = [sum(model.seen[at : at + passes]) / passes for at in range(0, len(model.seen), passes)]
    if kind is not Search:  # other batches search longer
        assert reading.training.start == pytest.approx(sum(known[: reading.training.steps][:3]) / 3, abs=0.3)
    assert min(known) - 1e-6 <= reading.training.end <= max(known) + 1e-6
    again = record.last(TrainingLossInEval)
    if kind is not Sharp:
        assert again.eval_mode == pytest.approx(again.by_validation, rel=1e-4), "of the same batches and weights"


@pytest.mark.parametrize("kind", _spread(SEVERAL))
def test_several_losses_are_not_judged(kind):
    _, record = _fitted(kind)
    found, reading = record.last(LossKind), record.last(CurveReading)
    assert not found.supervised
    assert found.reason
    assert reading.training is None
    assert record.last(TrainingLossInEval) is None


@pytest.mark.slow
def test_measuring_leaves_steps_made_by_hand_as_they_are():
    with_us, _ = _fitted(Sharp)
    torch.manual_seed(0)
    inputs = torch.randn(64, 4)
    data = TensorDataset(inputs, inputs[:, :3].argmax(1))
    without = Sharp()
    trainer(max_epochs=2).fit(without, DataLoader(data, 16), DataLoader(data, 32))
    assert all(torch.equal(one, two) for one, two in zip(with_us.parameters(), without.parameters(), strict=True))


def test_a_loss_that_is_not_finite_tells_nothing_of_its_kind():
    call = LossCall(function="mse_loss", value=2.0, reduction="mean", target=Operand(field="y", from_batch=True))
    sound = LossGraph(loss=2.0, losses=1, backward=(2.0,), calls=(call,))
    broken = LossGraph(loss=float("nan"), losses=1, backward=(float("nan"),), calls=(call,))
    assert loss_kind_by_hand([sound, broken], returned=False).supervised
    assert "not finite" in loss_kind_by_hand([broken], returned=True).reason
    other = LossGraph(loss=7.0, losses=1, backward=(2.0,), calls=(call,))
    assert "returns" in loss_kind_by_hand([other], returned=True).reason
    assert "no loss" in loss_kind_by_hand([LossGraph(loss=7.0, losses=1)], returned=True).reason
    elsewhere = LossCall(function="mse_loss", value=2.0, reduction="mean", target=Operand(field="z", from_batch=True))
    third = LossGraph(loss=2.0, losses=1, backward=(2.0,), calls=(elsewhere,))
    assert "other steps" in loss_kind_by_hand([sound, third], returned=False).reason


class Scheduled(ByHand):
    steps = False

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        if self.steps:
            self.lr_schedulers().step()

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2)]


class Forgotten(ByHand):
    configure_optimizers = Scheduled.configure_optimizers


class ForgottenOneCycle(ByHand):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        steps = self.trainer.estimated_stepping_batches
        return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=steps)]


def test_a_schedule_of_steps_that_nobody_steps_goes_into_the_step():
    _, record = _fitted(ForgottenOneCycle, OptimizerInspector())
    (claim,) = [item for item in scheduler_at_wrong_interval(record) if isinstance(item, Claim)]
    assert "in training_step" in claim.fix


class Constant(ByHand):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)]


class Distant(ByHand):
    """The milestones lie beyond the run."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [50])]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Forgotten, True),
        *(pytest.param(kind, False, marks=pytest.mark.slow) for kind in (Scheduled, Constant, Distant)),
    ],
)
def test_a_scheduler_that_nobody_steps(kind, told):
    _, record = _fitted(kind, OptimizerInspector())
    claims = [item for item in scheduler_at_wrong_interval(record) if isinstance(item, Claim)]
    assert [claim.subject for claim in claims] == (["CosineAnnealingLR"] if told else [])
    if told:
        assert "made no step in 2 epochs" in claims[0].message
        assert "0.1" in claims[0].message
        assert "on_train_epoch_end" in claims[0].fix


def test_a_plateau_that_nobody_steps_is_given_its_value():
    seen = ScheduleProgress(scheduler="ReduceLROnPlateau", automatic=False, batches=5, idle=True)
    (claim,) = scheduler_at_wrong_interval(Record([ScheduleInUse(scheduler="ReduceLROnPlateau"), seen]))
    assert "val_loss" in claim.fix
    assert "stays" not in claim.message


def test_a_run_that_was_thrown_far_up_and_came_back_has_not_learned():
    contest = LRContest(
        other=0.03, steps=15, start=1.38, in_use=(1233.0, 900.0), others=(0.17, 0.18), highest=(2e3, 2e3)
    )
    trial = LRRange(in_use=3.0, name="Adam", suggestion=0.03, contest=contest)
    course = TrainingCourse(steps=456, start=60.0, end=1.05)
    record = Record([EarlyLosses(), trial, CurveReading(final=True, training=course)])
    assert any(isinstance(item, Claim) for item in learning_rate_too_high(record))
