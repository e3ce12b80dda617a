"""Healthy programs of other people that looked like a fault, on plain evidence and small inputs."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_debug.callbacks._curve_measures import reference
from lightning_debug.evidence import Moment
from lightning_debug.evidence.curves import LossKind
from lightning_debug.evidence.data_values import FitsOver, RegressionFit
from lightning_debug.evidence.loss import LossCall, LossGraph, Operand
from lightning_debug.evidence.model import LinearChain, LinearPair, Place
from lightning_debug.evidence.modes import ModeGap, NormState
from lightning_debug.evidence.run import RunContext
from lightning_debug.finding import Claim, Severity
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.data_reach import ReachTrace
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.data_programs import codes, loader
from tests.test_data_values_rules import LABELS, SERIES, seeded, values


def claims(code, *evidence):
    return [item for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


@pytest.mark.parametrize(
    ("excesses", "claimed"),
    [
        ([1.6, 13.3, 4.7, 1.5, 0.5, 0.8], False),  # weights move fast while the rate warms up
        ([1.6, 2.5, 4.7, 3.9], True),
        ([1.6, 2.5, 4.7, 3.9, 0.1], False),
        ([0.1, 1.7, 1.9, 2.4], True),
    ],
)
def test_running_statistics_that_catch_up(excesses, claimed):
    norm = NormState(path="net.1", momentum=0.1, updates=40, untouched=False, distance=0.6)
    gaps = [
        ModeGap(samples=64, steps=10 + 20 * place, first_loss=6.0, train_loss=0.5, eval_loss=0.5 + excess,
                cured_loss=0.52, norms=(norm,))
        for place, excess in enumerate(excesses)
    ]  # fmt: skip
    assert bool(claims("LD413", *gaps)) is claimed


@pytest.mark.parametrize(("momentum", "fix"), [(0.99, "momentum=0.01"), (1.0, "momentum=0.01"), (0.1, "GroupNorm")])
def test_momentum_of_another_framework(momentum, fix):
    norm = NormState(path="net.1", momentum=momentum, updates=90, untouched=False, distance=3.0)
    known = {"samples": 64, "first_loss": 1.1, "train_loss": 0.5, "cured_loss": 0.52, "norms": (norm,)}
    found = claims("LD413", *(ModeGap(steps=steps, eval_loss=2.6, **known) for steps in (100, 200)))
    assert fix in found[0].fix


@pytest.mark.parametrize(
    ("momentum", "planned", "last", "claimed"),
    [(0.01, 400, False, False), (0.01, 400, True, True), (0.01, 40, False, True), (0.001, 400, False, True)],
)
def test_statistics_that_the_planned_run_brings_there_are_waited_for(momentum, planned, last, claimed):
    """EEGNet and single-cell models ask for a momentum of 0.01."""
    norm = NormState(path="net.9", momentum=momentum, updates=29, distance=0.6)
    gap = ModeGap(samples=32, steps=29, first_loss=1.1, train_loss=0.15, eval_loss=0.53, cured_loss=0.12,
                  norms=(norm,), last=last)  # fmt: skip
    assert bool(claims("LD413", RunContext(planned_steps=planned), gap)) is claimed


def test_statistics_that_are_tracked_again():
    """Lightning's BaseFinetuning stops them while a backbone is frozen."""
    norm = NormState(path="net.1", momentum=0.1, updates=0, untouched=True, distance=3.0, tracks=False)
    known = {"samples": 64, "first_loss": 0.7, "train_loss": 0.5, "cured_loss": 0.52, "norms": (norm,)}
    frozen = ModeGap(steps=20, eval_loss=1.6, **known)
    assert claims("LD413", frozen)
    assert not claims("LD413", frozen, ModeGap(steps=60, eval_loss=0.55, **known))


def test_maps_of_different_sizes_are_no_table():
    """Pictures of different sizes, one a batch, with a map each."""
    kind = LossKind(function="mse_loss", supervised=True, plain=True, target="batch[1]")
    batches = [(torch.randn(1, 3, 4, 4 + place % 2), torch.randn(1, 1, 2, 2 + place % 2)) for place in range(8)]
    found, reason = reference(batches, kind)
    assert found is None
    assert reason


def test_sparse_rows_are_read_as_they_are():
    torch.manual_seed(0)
    labels = torch.arange(80) % 4
    rows = (torch.rand(80, 300) < 0.02 + 0.2 * (torch.arange(300) % 4 == labels[:, None])).float()
    parts = zip(rows.split(20), labels.split(20), strict=True)
    kind = LossKind(function="cross_entropy", target="batch[1]", supervised=True, plain=True)
    found, reason = reference([[part.to_sparse(), known] for part, known in parts], kind)
    assert found == reference([[rows, labels]], kind)[0], reason
    assert found is not None
    batch = [rows.to_sparse(), labels]
    weights = nn.ParameterList([torch.zeros(300, 4)])
    with ReachTrace(weights, batch, batch_roles(batch)) as watch:
        torch.sparse.mm(batch[0], weights[0])
    assert watch.error is None
    assert watch.layers


class Beside(nn.Module):
    """A field stands beside features of another, as places and dates do."""

    def __init__(self, *, first):
        super().__init__()
        self.features, self.head = nn.Linear(6, 40), nn.Sequential(nn.Linear(41, 8), nn.ReLU(), nn.Linear(8, 1))
        self.first = first

    def forward(self, rows, latitude):
        hidden = torch.relu(self.features(rows))
        parts = [latitude[:, None] / 10, hidden] if self.first else [hidden, latitude[:, None] / 10]
        return self.head(torch.cat(parts, dim=1) * 1.0)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_a_field_beside_activations_is_measured_by_itself(first, grad):
    torch.manual_seed(0)
    rows, latitude = 100 * torch.randn(64, 6), 50 + 10 * torch.randn(64)
    batch = {"rows": rows, "latitude": latitude, "labels": torch.arange(64) % 2}
    net = Beside(first=first)
    watch = ReachTrace(net, batch, batch_roles(batch))
    with watch, torch.set_grad_enabled(grad):
        net(rows, latitude)
    assert watch.error is None
    [found] = [item for item in watch.layers if item.field == "batch['latitude']"]
    assert found.means == pytest.approx([float(latitude.mean() / 10)], rel=1e-3)
    assert len(found.weights) == 1


@pytest.mark.parametrize(
    ("reduction", "loss", "claimed"), [("none", 0.4, False), ("none", -0.06, True), ("mean", 0.4, True)]
)
def test_marks_of_missing_labels_until_the_loss_falls_below_zero(reduction, loss, claimed):
    """A mask and weights keep a binary cross-entropy above 0."""
    target = Operand(shape=(32, 5), dtype="float32", from_batch=True, integral=True, count=160, rows=32, minimum=-1.0,
                     maximum=1.0, distinct=3, share_in_unit=0.9)  # fmt: skip
    scores = Operand(shape=(32, 5), dtype="float32", from_model=True, count=160, rows=32, dim=1)
    call = LossCall(function="binary_cross_entropy_with_logits", line="train.py:9", reduction=reduction, scores=scores,
                    target=target, reaches_loss=True)  # fmt: skip
    graph = LossGraph(step="training_step", loss=loss, calls=(call,))
    assert bool(claims("LD209", graph)) is claimed


@pytest.mark.parametrize(("seconds", "claimed"), [("raw", True), ("later", False), ("one far out", False)])
def test_a_clock_that_validation_does_not_scale(seconds, claimed):
    torch.manual_seed(0)
    train, val = torch.randn(512, 12), torch.randn(256, 12)
    if seconds == "raw":
        val[:, 0] = 172800 * torch.rand(256)
    elif seconds == "later":
        val[:, 0] = 40 + val[:, 0]
    else:
        val[7, 0] = 1e6
    assert bool(claims("LD515", *values(train), *values(val, stage="validate"))) is claimed


@pytest.mark.parametrize("stage", ["no targets", "targets"])
def test_values_that_were_held_out_of_the_same_samples(stage):
    """Ratings: what a user rated is the input of both, and validation asks for the ratings that were taken out."""
    torch.manual_seed(3)
    ratings = torch.randint(1, 6, (300, 40)) * (torch.rand(300, 40) < 0.4)
    taken = torch.rand(300, 40) < 0.3
    known, out = (ratings * ~taken).float(), (ratings * taken).float()
    train = loader(known, known) if stage == "targets" else DataLoader(known, batch_size=20, shuffle=True)
    assert "LD510" not in codes(train, loader(known, out, shuffle=False))
    if stage == "no targets":
        assert "LD510" in codes(train, loader(known, known, shuffle=False))


@pytest.mark.parametrize(("targets", "predictions", "found"), [(-85.0, -70.0, False), (-85.0, -3.0, True)])
def test_returns_of_an_agent_that_learns_are_no_large_targets(targets, predictions, found):
    """They move as the net follows: it is behind them by no more than they have moved."""
    means = ((-150.0, 0.1), (targets, predictions))
    fits = [
        RegressionFit(
            function="mse_loss", line="t.py:1", elements=32, target_mean=target, target_deviation=5.0,
            prediction_mean=mean, prediction_deviation=0.1, at=Moment(step=100 * index),
        )
        for index, (target, mean) in enumerate(means)
    ]  # fmt: skip
    assert bool(list(get("LD519").function(Record([*fits, FitsOver()])))) is found


def test_what_a_mask_leaves_of_an_activation_is_no_field():
    """Padded sets pooled by a mask: what meets the second layer was computed by the first."""
    first, second, shift = nn.Linear(4, 8), nn.Linear(8, 3), nn.Parameter(torch.zeros(4))
    mask = (torch.rand(32, 30, 1, generator=seeded()) < 0.7).float()
    batch = {"points": SERIES[:32], "mask": mask, "target": LABELS[:32]}
    with (watch := ReachTrace(nn.ModuleList([first, second]), batch, batch_roles(batch))):
        hidden = torch.relu(first(batch["points"] + shift))  # a parameter by itself is no activation
        second((hidden * mask).sum(1) / mask.sum(1))
        second(torch.where(mask > 0, hidden, 0).sum(1))
    assert watch.error is None
    assert {(item.field, item.module) for item in watch.layers} == {("batch['points']", "0")}


@pytest.mark.parametrize("last", [False, True])
def test_pictures_of_zeros_that_were_normalised_and_patches_of_colour(last):
    pictures = torch.rand(96, 3, 8, 8, generator=seeded()) + torch.arange(3).view(3, 1, 1)
    holes, tiles = pictures.clone(), pictures.clone()
    holes[::4] = torch.tensor([-1.8, -2.0, -1.6]).view(3, 1, 1)
    colours = pictures.mean((2, 3), keepdim=True).expand_as(pictures)
    named = colours[torch.arange(96) % 5]
    tiles[::4] = named[::4]
    found = []
    for item in (holes, pictures, colours, named, tiles):
        arranged = item.movedim(1, -1).contiguous() if last else item
        found.append(len(claims("LD508", *values(arranged))))
    assert found == [1, 0, 0, 0, 0]


def _pair(first, second):
    return LinearPair(first=Place(name=first), second=Place(name=second), widths=(48, 96, 96))


@pytest.mark.parametrize(
    ("pairs", "nonlinear", "severity"),
    [
        ((_pair("conv2d", "linear"),), True, Severity.INFO),  # as a published example ends
        ((_pair("conv2d", "linear"),), False, None),
        ((_pair("conv2d", "linear"), _pair("linear", "linear")), True, None),
        ((_pair("conv2d", "conv2d"),), True, None),
    ],
)
def test_a_convolution_before_a_linear_head_is_a_note(pairs, nonlinear, severity):
    (told,) = get("LD412").function(Record([LinearChain(layers=6, nonlinear=nonlinear, pairs=pairs)]))
    assert told.severity is severity
    assert ("conv2d" in told.message) is ("linear" not in {pair.first.name for pair in pairs})
