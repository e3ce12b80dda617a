"""Faults in what is optimised, each on several programs, found early and under the right code."""

import pytest
import torch
from torch.nn import functional as F

from lightning_debug.evidence.curves import CurveReading, TrainingCourse
from lightning_debug.evidence.metrics import CarriedOver, MetricStates
from lightning_debug.evidence.model import InputDependence
from lightning_debug.evidence.optimization import GroupUpdate, KeptGraphs, UpdateAudit
from lightning_debug.record import Record
from lightning_debug.registry import get
from lightning_debug.rules.ld606_weight_decay_too_strong import weight_decay_too_strong
from tests.optimizer_programs import ByHand, Classifier, found, inspected, loader


class Negated(Classifier):
    def training_step(self, batch, batch_idx):
        return -super().training_step(batch, batch_idx)


class Maximised(Classifier):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, maximize=True)


class Climber(torch.optim.Optimizer):
    """An update with the wrong sign."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for item in group["params"]:
                item.add_(item.grad, alpha=group["lr"])
        return loss


class Climbing(Classifier):
    def configure_optimizers(self):
        return Climber(self.parameters())


@pytest.mark.parametrize("program", [Negated, Maximised, Climbing])
def test_steps_go_uphill(program):
    report = inspected(program(), max_epochs=1).report
    assert [item.code for item in report.headlines] == ["LD608"]
    assert report.headlines[0].at.step <= 3


class NegatedByHand(ByHand):
    def manual_backward(self, loss, *args, **kwargs):
        super().manual_backward(-loss, *args, **kwargs)


class Opposed(ByHand):
    """An ascent for each descent: a game."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        for sign in (-1, 1):
            optimizer.zero_grad()
            self.manual_backward(sign * Classifier.training_step(self, batch, batch_idx))
            optimizer.step()


@pytest.mark.parametrize(("program", "codes"), [(NegatedByHand, ["LD608"]), (Opposed, [])])
def test_steps_by_hand_that_go_uphill(program, codes):
    assert found(program(), max_epochs=1) == codes


@pytest.mark.parametrize("program", [Negated, Maximised])
def test_steps_go_uphill_where_gradients_are_accumulated(program):
    """The first three batches hold no step at all."""
    report = inspected(program(), max_epochs=1, accumulate_grad_batches=4).report
    assert [item.code for item in report.headlines] == ["LD608"]


class Shrunk(Classifier):
    def __init__(self, kind, decay):
        super().__init__()
        self.kind, self.decay = kind, decay

    def configure_optimizers(self):
        return self.kind(self.parameters(), lr=3e-2, weight_decay=self.decay)


@pytest.mark.parametrize(
    ("kind", "decay"), [(torch.optim.Adam, 2.0), (torch.optim.AdamW, 20.0), (torch.optim.SGD, 3.0)]
)
def test_weight_decay_too_strong(kind, decay):
    assert "LD606" in found(Shrunk(kind, decay), max_epochs=2)


def test_weight_decay_too_strong_where_gradients_are_accumulated():
    """No step falls on a batch that is looked at later."""
    assert "LD606" in found(Shrunk(torch.optim.AdamW, 20.0), max_epochs=8, accumulate_grad_batches=4)


def test_weights_that_a_decay_has_emptied_get_gradients_larger_than_it():
    """The first steps tell, where predictions have become constant."""
    looks = [(1, 8.1, 4.4), (3, 7.2, 3.5), (11, 1.3, 0.35), (39, 0.55, 0.45), (77, 0.06, 0.11), (202, 0.02, 0.06)]
    audits = [
        UpdateAudit(
            steps=steps,
            groups=(GroupUpdate(optimizer="SGD", weight_decay=0.5, weight_norm=weights, gradient_norm=gradient),),
        )
        for steps, weights, gradient in looks
    ]
    constant = InputDependence(steps=76, change=0.0, scale=0.02, targets_vary=True)
    assert not list(weight_decay_too_strong(Record(audits)))
    (claim,) = weight_decay_too_strong(Record([*audits, constant]))
    assert "pulls 1.86 times as hard" in claim.message


@pytest.mark.parametrize(("end", "claimed"), [(2.8, True), (2.1, True), (1.5, False)])
def test_a_decay_that_has_won_is_held_by_the_gradient_of_what_it_left(end, claimed):
    looks = [
        (1, 11.0, 0.05),
        (4, 8.0, 0.04),
        (10, 3.4, 0.2),
        (40, 2.9, 0.2),
        (80, 2.9, 0.2),
        (99, 2.9, 0.2),
        (150, 2.9, 0.2),
    ]
    audits = [
        UpdateAudit(
            steps=steps,
            groups=(
                GroupUpdate(
                    optimizer="AdamW", weight_decay=8.0, weight_norm=weights, gradient_norm=1.0, rate=0.03,
                    decoupled=True, update_norm=0.24 * weights + moved,
                ),
            ),
        )
        for steps, weights, moved in [(step, norm, 20 * more if norm < 3 else more) for step, norm, more in looks]
    ]  # fmt: skip
    reading = CurveReading(training=TrainingCourse(steps=150, start=2.7, lowest=1.4, end=end))
    assert bool(list(weight_decay_too_strong(Record([*audits, reading])))) is claimed


class KeepsList(Classifier):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.kept.append({"loss": loss})
        return loss

    def on_fit_start(self):
        self.kept = []


class KeepsSum(Classifier):
    total = 0

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.total = self.total + loss
        return loss


class KeepsAverage(Classifier):
    smooth = 0

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.smooth = 0.9 * self.smooth + 0.1 * loss
        return loss


class KeepsAverages(Classifier):
    def on_fit_start(self):
        self.smooth = {"loss": torch.zeros(())}

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.smooth["loss"] = torch.lerp(self.smooth["loss"], loss, 0.1)
        return loss


class KeepsScores(ByHand):
    def on_fit_start(self):
        self.body.history = []

    def scores(self, inputs):
        self.body.history.append(super().scores(inputs))
        return self.body.history[-1]


@pytest.mark.parametrize("program", [KeepsList, KeepsSum, KeepsAverage, KeepsAverages, KeepsScores])
def test_memory_grows(program):
    assert found(program(), max_epochs=2) == ["LD609"]


@pytest.mark.parametrize(("path", "told"), [("self.train_m.auc.preds", False), ("self.train_means", True)])
def test_a_metric_that_is_not_reset_is_named_once(path, told):
    kept = KeptGraphs(path=path, sizes=(1, 17, 33), epochs=(0, 1, 2), batches=(1, 17, 33))
    carried = CarriedOver(source="train_m.auc", kind="metric", collection="train_m", earlier_train=16, held=32)
    metrics = MetricStates(stage="train", metrics=1, carried=(carried,))
    assert bool(list(get("LD609").function(Record([kept, metrics])))) is told


def test_a_loss_of_two_functions_with_one_sign_is_no_negation():
    class Mixed(Classifier):
        def training_step(self, batch, batch_idx):
            scores = self.scores(batch[0])
            return F.cross_entropy(scores, batch[1]) - 0.1 * F.mse_loss(scores, torch.ones_like(scores))

    assert not found(Mixed(), loader(), max_epochs=1)


@pytest.mark.parametrize(
    ("gradients", "decoupled", "change", "drowned"),
    [
        ((0.1, 0.2, 0.1, 0.05), False, 0.5, True),
        ((5.0, 0.2, 0.02, 0.001), False, 0.5, False),  # it learned first: its gradients are small because it has
        ((5.0, 0.2, 0.02, 0.001), False, 0.0, True),  # it did not: all samples have the same output
        ((20.0, 0.2, 0.02, 0.001), False, 0.0, False),  # a gradient of some weight against the decay
        ((0.1, 0.2, 0.1, 0.05), True, 0.5, False),
    ],
)
def test_a_decay_that_drowns_the_gradient_from_the_first_step_needs_no_half_of_the_norm(
    gradients, decoupled, change, drowned
):
    from lightning_debug.evidence.model import InputDependence
    from lightning_debug.evidence.optimization import GroupUpdate, UpdateAudit
    from lightning_debug.record import Record
    from lightning_debug.rules.ld606_weight_decay_too_strong import weight_decay_too_strong

    looks = [
        UpdateAudit(
            steps=steps,
            groups=(
                GroupUpdate(
                    optimizer="Adam",
                    rate=3e-3,
                    weight_decay=1.0,
                    decoupled=decoupled,
                    weight_norm=norm,
                    gradient_norm=gradient,
                    update_norm=0.25,
                ),
            ),
        )
        for steps, norm, gradient in zip((1, 11, 101, 201), (79.0, 77.0, 62.0, 49.0), gradients, strict=True)
    ]
    seen = InputDependence(function="mse_loss", samples=8, steps=201, change=change, scale=1.0)
    assert bool(list(weight_decay_too_strong(Record([*looks, seen])))) == drowned
