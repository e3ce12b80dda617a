"""Each rule of LD5 on each type of data where it makes sense: found where it is wrong, silent where it is not.

The table is generated: rows from the registry, columns from the cases below and from the tests of relations, which
are parametrised by type. A rule with fewer than three types is a gap, unless it says why.
"""

import dataclasses
import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug import registry
from lightning_debug.evidence import Moment
from lightning_debug.evidence.data import UnreadableSample
from lightning_debug.evidence.data_values import FitsOver
from lightning_debug.finding import Claim
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.data_counts import ClassCounts, RowCounts
from lightning_debug.probes.data_reach import ReachTrace
from lightning_debug.probes.data_values import ValueMoments
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.data_programs import KINDS, make

ELSEWHERE = {
    "LD503": "test_data_relations.test_sorted_labels_without_shuffling",
    "LD504": "test_data_relations.test_batches_of_one_label",
    "LD505": "test_data_relations.test_labels_moved_by_some_rows",
    "LD507": "test_data_relations.test_copies_in_the_training_data",
    "LD510": "test_data_relations.test_training_samples_in_validation",
    "LD512": "test_data_relations_draws.test_a_flip_that_changes_the_label",
    "LD513": "test_data_relations_draws.test_a_seed_in_each_draw",
    "LD517": "test_data_relations_draws.test_the_same_order_in_each_epoch",
    "LD520": "test_data_relations.test_copies_with_other_labels",
    "LD522": "test_data_collate.test_parted_by_type",
    "LD523": "test_data_given.test_told",
}
HEALTHY = "test_data_relations.test_healthy_data_are_told_nothing"
SHAPES = {3: "image", 2: "series", 1: "tabular"}
ONLY = {
    "LD502": "only columns of a table have levels of their own; images and series are normalised by sample on purpose",
    "LD506": "only tokens are shifted",
    "LD523": "only tables have columns that may hold the label",
    "LD514": "a table has one dimension, and ids none to turn: images and series",
}
NUMBERS = ["image", "tabular", "series"]
LABELS = torch.arange(192) % 4


def data(kind):
    inputs, _ = make(kind, 192)
    if kind == "image":
        inputs = F.interpolate(inputs.repeat(1, 3, 1, 1), size=16, mode="bilinear")
    return inputs


def model(kind, inputs, units=4):
    first = {
        "image": lambda: [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8)],
        "token": lambda: [nn.Embedding(64, 8), nn.Flatten(), nn.Linear(8 * inputs[0].numel(), 8)],
        "series": lambda: [nn.Conv1d(32, 4, 1), nn.Flatten(), nn.Linear(4, 8)],
        "tabular": lambda: [nn.Linear(12, 8)],
    }[kind]()
    torch.manual_seed(0)
    return nn.Sequential(*first, nn.ReLU(), nn.Linear(8, units))


def evidence(kind, inputs, labels=LABELS, stage="train", net=None, loss=F.cross_entropy):
    """What the auditor records of three batches."""
    net = model(kind, inputs) if net is None else net
    moments, counts = {}, ClassCounts()
    for step in range(3):
        batch = tuple(item[64 * step : 64 * step + 64] for item in (inputs, labels))
        fields = batch_roles(batch, labels="1")
        for field in fields:
            if field.role in ("input", "tokens"):
                moments.setdefault(field.path, ValueMoments(field, stage, 0)).add(field)
        with (watch := ReachTrace(net, batch, fields, stage)):
            loss(net(batch[0]), batch[1])
        assert watch.error is None
        for item in (*watch.layers, *watch.fits, *watch.classes):
            yield dataclasses.replace(item, at=Moment(step=30 * step))
        if not labels.is_floating_point():
            counts.add(batch[1])
    yield from (item.evidence() for item in moments.values())
    if not labels.is_floating_point():
        yield counts.evidence(stage, 0, "batch[1]", complete=True)


def not_normalised(kind, wrong):
    return evidence(kind, data(kind) * 300 + 500 if wrong else data(kind))


def zeros(kind, wrong):
    inputs = data(kind)
    inputs[::3] *= not wrong
    return evidence(kind, inputs)


def constant(kind, wrong):
    inputs = data(kind)
    return evidence(kind, inputs[:1].expand_as(inputs) if wrong else inputs)


def prepared_otherwise(kind, wrong):
    inputs = data(kind)
    yield from evidence(kind, inputs)
    yield from evidence(kind, inputs * 20 + 30 if wrong else inputs.flip(0), stage="validate")


def ignored_class(kind, wrong):
    inputs, net = data(kind), model(kind, data(kind), units=2)
    rare = (torch.arange(192) % 16 == 0).long()
    with torch.no_grad():  # predicts the frequent class, or what is true
        net[-1].weight.zero_()
        net[-1].bias.copy_(torch.tensor([9.0, -9.0]))
    yield from evidence(kind, inputs, rare, net=net)
    answers = iter(rare.split(64))
    told = net if wrong else nn.Sequential(net, Answers(answers))
    yield from evidence(kind, inputs, rare, "validate", told)


class Answers(nn.Module):
    """The true classes, as logits that depend on the input."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def forward(self, logits):
        return logits * 0 + 9.0 * F.one_hot(next(self.answers), 2)


def unused_unit(kind, wrong):
    labels = LABELS.clamp(max=2) if wrong else LABELS
    yield from evidence(kind, data(kind), labels)
    yield from evidence(kind, data(kind), LABELS, "validate")


def lost(kind, wrong):
    inputs = data(kind)
    counter = RowCounts(24, 192)
    for start in range(0, 192, 24):
        batch = inputs[start : start + 24 - 5 * wrong], LABELS[start : start + 24 - 5 * wrong]
        fields = batch_roles(batch)
        counter.add(batch, fields, fields[0].size)
    yield counter.evidence("train", 0, 192, "collate")
    yield from evidence(kind, inputs)


def large_targets(kind, wrong):
    targets = (torch.randn(192, 1, generator=torch.Generator().manual_seed(0)) + 3) * (500 if wrong else 0.3)
    yield from evidence(kind, data(kind), targets, net=model(kind, data(kind), units=1), loss=F.mse_loss)
    yield FitsOver()


def turned(kind, wrong):
    """The channels last for a layer that wants them first; smooth, as real ones are."""
    smooth = torch.linspace(0, 3, 16).sin()
    if kind == "image":
        inputs = (smooth[:, None] * torch.randn(192, 3, 1, 1) + smooth).contiguous()
        net = nn.Sequential(nn.Conv2d(16, 4, 1), nn.Flatten(), nn.Linear(192, 4)) if wrong else None
        return evidence(kind, inputs.permute(0, 2, 3, 1) if wrong else inputs, net=net)
    waves = torch.sin(torch.linspace(0, 4, 50) + 6 * torch.rand(192, 5, 1))  # (samples, channels, time)
    net = nn.Sequential(nn.Conv1d(50 if wrong else 5, 4, 3), nn.Flatten(), nn.LazyLinear(4))
    net(waves[:2].transpose(1, 2) if wrong else waves[:2])
    return evidence(kind, waves.transpose(1, 2) if wrong else waves, net=net)


def by_row(kind, wrong):
    raw = torch.tensor([1.0, 40, 3, 80, 2, 500, 5, 25, 9, 70, 4, 300]) * (2 + data(kind) / 4)
    dim = int(wrong)
    return evidence(kind, (raw - raw.mean(dim, keepdim=True)) / raw.std(dim, keepdim=True))


def unreadable(kind, wrong):
    yield from evidence(kind, data(kind))
    if wrong:
        yield UnreadableSample(stage="train", index=3, dataset="Images", error="OSError", message="no such file")


HERE = {
    "LD501": (not_normalised, NUMBERS),
    "LD502": (by_row, ["tabular"]),
    "LD508": (zeros, NUMBERS),
    "LD509": (constant, KINDS),
    "LD511": (ignored_class, KINDS),
    "LD514": (turned, ["image", "series"]),
    "LD515": (prepared_otherwise, NUMBERS),
    "LD516": (unused_unit, KINDS),
    "LD518": (lost, NUMBERS),
    "LD519": (large_targets, KINDS),
    "LD521": (unreadable, KINDS),
}


@pytest.mark.parametrize(("code", "kind"), [(code, kind) for code, (_, kinds) in HERE.items() for kind in kinds])
def test_rule_on_type(code, kind):
    build = HERE[code][0]
    for wrong in (True, False):
        outcomes = list(get(code).function(Record(build(kind, wrong))))
        assert any(isinstance(item, Claim) for item in outcomes) == wrong, outcomes


def types_of(test):
    """The types that a test is parametrised by."""
    module, _, name = test.partition(".")
    function = getattr(importlib.import_module(f"tests.{module}"), name)
    for mark in function.pytestmark:
        if mark.name == "parametrize" and mark.args[0] == "kind":
            return set(mark.args[1])
        if mark.name == "parametrize" and "shape" in mark.args[0]:
            return {SHAPES[len(values[0])] for values in mark.args[1]}
    return set()


def table():
    """Types by rule."""
    codes = [one.code for one in registry.all_rules() if one.code.startswith("LD5")]
    return {
        code: set(HERE.get(code, ((), ()))[1]) | (types_of(ELSEWHERE[code]) if code in ELSEWHERE else set())
        for code in codes
    }


def test_no_rule_has_a_gap():
    rows = table()
    assert len(rows) >= 21
    gaps = {code: sorted(kinds) for code, kinds in rows.items() if len(kinds) < 3 and code not in ONLY}
    assert not gaps, f"three types of data at least, or a reason in ONLY: {gaps}"
    assert types_of(HEALTHY) == set(KINDS)
    needless = {code for code in ONLY if len(rows[code]) >= 3} | (set(ONLY) | set(ELSEWHERE) | set(HERE)) - set(rows)
    assert not needless
