"""The checks of losses leave no trace, and nothing on the module; their probes on known values."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug import Debugger, LossInspector
from lightning_debug.evidence import decode, encode
from lightning_debug.probes.label_order import label_order
from lightning_debug.probes.loss_tap import LossTap
from lightning_debug.probes.stated_intent import earlier_training, fields_of, metric_names, stated_words
from tests.helpers import trainer
from tests.loss_programs import CODES, Program, Trained, blobs, held_out, loader, mlp


class Stateful(Program):
    """Dropout, batch-norm, random numbers, counters, and a batch that the step changes."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen, self.losses = 0, []

    def training_step(self, batch, batch_idx):
        batch[0].add_(0.1 * torch.randn_like(batch[0]))
        self.seen += len(batch[0])
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.item())
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss


class Manual(Stateful):
    def __init__(self, *args):
        super().__init__(*args)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


def classify(self, batch):
    return F.cross_entropy(self.net(batch[0]), batch[1])


def net():
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 5))


def outcome(kind, callbacks, **options):
    torch.manual_seed(1)
    inputs, labels = blobs()
    program = kind(net(), classify, lambda self, b: {"val_loss": classify(self, b)})
    fit = trainer(*callbacks, max_epochs=2, **options)
    fit.fit(program, loader(inputs, labels, batch_size=16), held_out(inputs, labels))
    weights = {name: item.clone() for name, item in program.state_dict().items()}
    logged = {name: float(value) for name, value in fit.callback_metrics.items()}
    return weights, program.losses, program.seen, logged, torch.rand(1).item(), set(vars(program))


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Stateful, {}), (Stateful, {"accumulate_grad_batches": 2}), (Stateful, {"num_sanity_val_steps": 0}), (Manual, {})],
)
def test_the_run_is_the_same_bit_for_bit(kind, options):
    debugger = Debugger(strict=True, console=False, select=list(CODES))
    plain, watched = outcome(kind, [], **options), outcome(kind, [LossInspector(), debugger], **options)
    assert all(torch.equal(plain[0][name], watched[0][name]) for name in plain[0])
    assert plain[1:] == watched[1:]


def test_the_evidence_survives_json():
    debugger = Debugger(strict=True, console=False, select=list(CODES))
    outcome(Stateful, [LossInspector(), debugger], accumulate_grad_batches=2)
    kinds = {kind.__name__ for kind in debugger.session.record.kinds}
    assert {"StatedIntent", "EarlierTraining", "BatchScaling", "ValidationLossComparison"} <= kinds
    for kind in debugger.session.record.kinds:
        for item in debugger.session.record.of(kind):
            assert decode(encode(item)) == item


def test_it_works_alone_and_is_pickled():
    inspector = LossInspector()
    outcome(Stateful, [inspector])
    assert inspector.report.status == "finished"
    assert not inspector.report.findings
    assert pickle.loads(pickle.dumps(inspector)).report == inspector.report


def test_an_exception_in_a_step_leaves_the_module_clean():
    def broken(self, batch):
        raise RuntimeError("the user's")

    program = Trained(mlp(8, 5), broken)
    with pytest.raises(RuntimeError, match="the user's"):
        trainer(LossInspector(), accumulate_grad_batches=2).fit(program, loader(*blobs()))
    assert not {"training_step", "log", "log_dict"} & set(vars(program))


def test_a_second_fit_is_checked_again():
    debugger = Debugger(strict=True, console=False, select=["LD211"])
    program = Trained(mlp(8, 5), lambda self, b: F.cross_entropy(self.net(b[0]), b[1], reduction="sum"))
    for _ in range(2):
        trainer(LossInspector(), debugger, max_epochs=1).fit(program, loader(*blobs()))
        assert [item.code for item in debugger.report.findings] == ["LD211"]


def test_a_tap_tells_what_a_loss_is_a_mean_over():
    scores, labels = torch.randn(4, 3, 5), torch.randint(0, 3, (4, 5))
    labels[0] = -100
    with LossTap() as tap:
        loss = F.cross_entropy(scores, labels).float()
    mean = tap.mean_over(loss)
    assert (mean.function, float(mean.count), bool(mean.masked)) == ("cross_entropy", 15.0, True)
    with LossTap() as tap:
        plain = F.mse_loss(scores, scores + 1)
        total = F.cross_entropy(scores, labels, reduction="sum")
        other = total + plain
    assert tap.mean_over(plain) is None
    assert tap.mean_over(total) is None
    assert tap.mean_over(other) is None
    assert {item.function for item in tap.reaching(other)} == {"mse_loss", "cross_entropy"}
    assert [item.function for item in tap.reaching(plain)] == ["mse_loss"]
    with LossTap() as tap:
        old = nn.CrossEntropyLoss(reduction="sum")(scores, labels)
    assert tap.returned(old).reduction == "sum"


def test_label_order_against_known_labels():
    labels = torch.arange(6).repeat_interleave(20)
    codes = torch.eye(6)[labels] + 0.05 * torch.randn(120, 6)
    unordered = label_order("y", codes, labels)
    assert abs(unordered.rank_correlation) < 0.4
    assert unordered.separation_p == 0.005
    nothing = label_order("y", torch.randn(120, 6), labels)
    assert nothing.separation_p > 0.01
    assert label_order("y", None, labels).separation is None
    assert label_order("y", torch.ones(120, 3), labels).separation is None
    assert label_order("y", codes[:40], labels[:40]).rank_correlation is None


def test_what_a_program_states():
    from torchmetrics.classification import MulticlassAccuracy

    class Stated(nn.Module):
        """Minimises the Brier score."""

        def __init__(self):
            super().__init__()
            self.accuracy = MulticlassAccuracy(3)

    assert stated_words(Stated()) == ("brier",)
    assert metric_names(Stated()) == ("MulticlassAccuracy",)
    assert stated_words(mlp(2, 2)) == ()
    shared = torch.randint(0, 5, (4,))
    x, label, again, flag = fields_of((torch.zeros(4, 2), shared, shared.clone(), shared > 2))
    assert (label.lowest, label.highest) == (int(shared.min()), int(shared.max()))
    assert (x.lowest, flag.lowest, again.equals) == (None, None, "batch[1]")


def test_earlier_training_is_read_off_frozen_layers():
    net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Conv1d(3, 4, 5), nn.Linear(16, 2)).requires_grad_(False)
    assert not earlier_training(net).trained  # an EMA copy of what has just been made
    net[2].weight.data[0, 0, 0] = 1.0
    assert earlier_training(net).trained == ("2",)
    assert not earlier_training(net.requires_grad_(True)).trained  # the user's own initialisation


def test_earlier_training_is_read_off_normalisation_layers():
    fresh = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.InstanceNorm1d(3)
    )
    nn.init.zeros_(fresh[1].weight)
    assert earlier_training(fresh) == type(earlier_training(fresh))(layers=3)
    with torch.no_grad():
        fresh[3].bias[0] += 0.1
    assert earlier_training(fresh).trained == ("3",)


def test_sums_that_a_nan_hides_say_nothing_of_a_dimension():
    from lightning_debug.probes.loss_operands import describe

    overflown = torch.tensor([[0.2, 0.8, 0.0], [torch.nan, 0.0, torch.nan], [0.1, 0.3, 0.6], [0.5, 0.5, 0.0]])
    operand = describe(overflown, 1)
    assert operand.sum_errors == (None, None)
    assert operand.log_sum_errors == (None, None)
    assert describe(overflown.nan_to_num(), 1).sum_errors[0] is not None
