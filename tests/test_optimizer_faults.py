"""Faults in what is optimised, each on several programs, found early and under the right code."""

import pytest
import torch
from torch import nn

from tests.optimizer_programs import ByHand, Classifier, found, inspected


class HeadForgotten(Classifier):
    def configure_optimizers(self):
        return torch.optim.Adam(self.body.parameters(), 1e-2)


class InAList(Classifier):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(8, 8), nn.Linear(8, 8)]

    def scores(self, inputs):
        for layer in self.layers:
            inputs = layer(inputs).tanh()
        return super().scores(inputs)


class HeadReplaced(Classifier):
    def on_train_start(self):
        self.head = nn.Linear(16, 2)


class GroupDropped(Classifier):
    """Groups by name, where the one for biases is built and not used."""

    def configure_optimizers(self):
        groups = {True: [], False: []}
        for name, item in self.named_parameters():
            groups[name.endswith("bias")].append(item)
        return torch.optim.AdamW([{"params": groups[False], "weight_decay": 0.01}], 1e-2)


class WeightsDropped(Classifier):
    """Groups by name, where the one for weights takes those of the head only."""

    def configure_optimizers(self):
        wanted = [item for name, item in self.named_parameters() if name.endswith(("bias", "head.weight"))]
        return torch.optim.AdamW(wanted, 1e-2)


class BiasesOfTrained(WeightsDropped):
    """Healthy: the weights were trained before, and their biases alone are tuned."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            for layer in (self.body[0], self.body[2]):
                layer.weight.mul_(torch.linspace(0.3, 6.0, 16)[:, None])


class MadeAnew(Classifier):
    def scores(self, inputs):
        return super().scores(nn.Linear(8, 8)(inputs))


class LossForgotten(ByHand):
    """A learnable matrix in the loss, under manual optimization."""

    def __init__(self):
        super().__init__()
        self.criterion = nn.Module()
        self.criterion.prototypes = nn.Parameter(torch.randn(2, 16))

    def scores(self, inputs):
        return self.body(inputs) @ self.criterion.prototypes.T

    def configure_optimizers(self):
        return torch.optim.SGD(self.body.parameters(), 0.1, momentum=0.9)


class Unfrozen(Classifier):
    """Unfrozen in the second epoch, and not added to the optimizer."""

    def __init__(self):
        super().__init__()
        self.body.requires_grad_(False)

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.body.requires_grad_(True)

    def configure_optimizers(self):
        return torch.optim.Adam(filter(lambda item: item.requires_grad, self.parameters()), 1e-2)


@pytest.mark.parametrize(
    ("program", "subject"),
    [
        (HeadForgotten, "head"),
        (InAList, "layers"),
        (HeadReplaced, "head"),
        (GroupDropped, None),
        (WeightsDropped, "body"),
        (MadeAnew, "training_step"),
        (LossForgotten, "criterion"),
        (Unfrozen, "body"),
    ],
)
def test_parameters_left_out(program, subject):
    report = inspected(program(), max_epochs=2).report
    assert {item.code for item in report.headlines} == {"LD406"}
    assert subject is None or report.headlines[0].subject == subject
    assert report.headlines[0].at.step <= (2 if program is not Unfrozen else 14)


def test_biases_alone_may_be_tuned():
    assert not inspected(BiasesOfTrained(), max_epochs=1).report.headlines


class CalledInstead(Classifier):
    """One layer is called twice, its neighbour never."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)

    def scores(self, inputs):
        return self.head(self.one(self.one(self.body(inputs)).relu()).relu())


class Detached(Classifier):
    def scores(self, inputs):
        return self.head(self.body(inputs).detach())


class WithoutGradient(ByHand):
    def scores(self, inputs):
        with torch.no_grad():
            hidden = self.body(inputs)
        return self.head(hidden)


class ThroughNumpy(Classifier):
    def scores(self, inputs):
        return self.head(torch.from_numpy(self.body(inputs).detach().numpy()))


class Positions(Classifier):
    """Learned positions that are read without their gradient, by a step that never calls forward."""

    def __init__(self):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(8))

    def scores(self, inputs):
        return self.head(self.body(inputs + self.place.data))


def test_a_parameter_that_is_read_as_data():
    (headline,) = inspected(Positions(), max_epochs=2).report.headlines
    assert (headline.code, headline.subject) == ("LD407", "place")
    assert "self.place.data at" in headline.message
    assert headline.fix.startswith("Read it as self.place, without .data")


@pytest.mark.parametrize(
    ("program", "calls"),
    [(CalledInstead, "never"), (Detached, "gradient"), (WithoutGradient, "no_grad"), (ThroughNumpy, "gradient")],
)
def test_parameters_without_gradient(program, calls):
    report = inspected(program(), max_epochs=2).report
    assert {item.code for item in report.headlines} == {"LD407"}
    assert {item.measured["calls"] for item in report.headlines} <= {calls, ""}


class NumberReturned(Classifier):
    def training_step(self, batch, batch_idx):
        return torch.tensor(super().training_step(batch, batch_idx).item(), requires_grad=True)


class RateZero(Classifier):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class NeverSteps(ByHand):
    def training_step(self, batch, batch_idx):
        self.manual_backward(Classifier.training_step(self, batch, batch_idx))


class Stale(Classifier):
    """The networks are rebuilt after the optimizer was made."""

    def on_train_start(self):
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.head = nn.Linear(16, 2)


class FrozenForAWhile(Classifier):
    """As samplers do that take gradients of their inputs alone, and forget to give the weights theirs back."""

    def training_step(self, batch, batch_idx):
        self.requires_grad_(False)
        inputs = batch[0].clone().requires_grad_()
        return super().training_step([inputs, *batch[1:]], batch_idx)


class NothingReturned(Classifier):
    def training_step(self, batch, batch_idx):
        self.log("train_loss", super().training_step(batch, batch_idx))


class Lost(Classifier):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-12)


@pytest.mark.filterwarnings("ignore:.training_step. returned .None.")
@pytest.mark.parametrize(
    ("program", "subject"),
    [
        (NumberReturned, "loss"),
        (RateZero, "learning rate"),
        (NeverSteps, "training_step"),
        (Stale, "configure_optimizers"),
        (FrozenForAWhile, "requires_grad"),
        (NothingReturned, "training_step"),
        (Lost, "learning rate"),
    ],
)
def test_nothing_trains(program, subject):
    report = inspected(program(), max_epochs=2).report
    assert [(item.code, item.subject) for item in report.headlines] == [("LD408", subject)]


class NotZeroed(ByHand):
    def training_step(self, batch, batch_idx):
        self.manual_backward(Classifier.training_step(self, batch, batch_idx))
        self.optimizers().step()


class OverriddenZero(Classifier):
    def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
        pass


class RawNotZeroed(ByHand):
    def training_step(self, batch, batch_idx):
        Classifier.training_step(self, batch, batch_idx).backward()
        self.optimizers().optimizer.step()


@pytest.mark.parametrize("program", [NotZeroed, OverriddenZero, RawNotZeroed])
def test_gradients_not_zeroed(program):
    report = inspected(program(), max_epochs=1).report
    assert [item.code for item in report.headlines] == ["LD603"]
    assert report.headlines[0].at.step <= 3


class ZeroedEachTime(ByHand):
    def training_step(self, batch, batch_idx):
        self.optimizers().zero_grad()
        self.manual_backward(Classifier.training_step(self, batch, batch_idx) / 2)
        if batch_idx % 2:
            self.optimizers().step()


class ZeroedInStep(Classifier):
    def training_step(self, batch, batch_idx):
        self.optimizers().zero_grad()
        return super().training_step(batch, batch_idx)


class ZeroedAtTheGate(ZeroedInStep):
    """Blocks whose gates begin closed, so that most gradients are zero at first."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(10))
        self.gates = nn.Parameter(torch.zeros(10, 1))

    def scores(self, inputs):
        for gate, block in zip(self.gates, self.blocks, strict=True):
            inputs = inputs + gate * block(inputs).tanh()
        return super().scores(inputs)

    def configure_optimizers(self):
        return torch.optim.SGD([*self.blocks.parameters(), self.gates, *self.head.parameters()], 1e-8)


def test_accumulation_void():
    assert "LD607" in found(ZeroedAtTheGate(), max_epochs=2, accumulate_grad_batches=3)
    assert found(ZeroedEachTime(), max_epochs=1) == ["LD607"]
    assert found(ZeroedInStep(), max_epochs=2, accumulate_grad_batches=3) == ["LD607"]
    assert found(Classifier(), max_epochs=3, accumulate_grad_batches=32) == ["LD607"]
