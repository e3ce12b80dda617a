"""Faults as they look in other people's programs, on plain evidence, each beside what only looks like it."""

import dataclasses

import pytest
import torch
from torch import nn

from lightning_debug.evidence.activations import ActivationHealth, UnitHealth
from lightning_debug.evidence.data import FieldValues
from lightning_debug.evidence.data_augmentation import AugmentationDraws, AugmentedNeighbours
from lightning_debug.evidence.data_relations import SampleCopies, SharedSamples
from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.evidence.loss import LossCall, LossGraph, Operand
from lightning_debug.evidence.loss_checks import ValidationLossComparison
from lightning_debug.evidence.lr_range import EarlyLosses, LRContest, LRRange
from lightning_debug.evidence.model import InputDependence, Place, SampleMixing
from lightning_debug.evidence.optimization import GradientCarryover
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.registry import get
from lightning_debug.rules._errors_layers import features
from tests.test_data_values_rules import LABELS, reached, values

DARK = torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(0)).pow(4).mul(16).round() / 16


def claims(code, *evidence):
    return [item for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


@pytest.mark.parametrize(
    ("train", "claimed"),
    [
        ((DARK - DARK.mean()) / DARK.std(), True),
        (DARK + 0.45 * torch.randn(DARK.shape, generator=torch.Generator().manual_seed(1)), False),  # noise
        (DARK, False),
        (DARK - DARK.mean(), True),
        (DARK - 0.1 * DARK.std(), False),
    ],
)
def test_dark_pictures_that_validation_does_not_normalise(train, claimed):
    """Their mean is less than a deviation from 0, and their deviation is less than four times another; black moved."""
    assert bool(claims("LD515", *values(train), *values(DARK, stage="validate"))) is claimed


def test_a_row_that_one_column_fills_was_normalised_by_itself():
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1.0, 50, 0.1, 300, 5, 1, 20, 0.5, 2, 100, 10, 1])
    table = (torch.randn(96, 12, generator=generator) + 1) * scales
    rows = (table - table.mean(1, keepdim=True)) / table.std(1, keepdim=True)
    [found] = claims("LD502", *values(rows))
    assert "deviations from" in found.message
    assert not claims("LD502", *values((table - table.mean(0)) / table.std(0)))
    even = torch.randn(96, 12, generator=generator)
    assert not claims("LD502", *values((even - even.mean(1, keepdim=True)) / even.std(1, keepdim=True)))


@pytest.mark.parametrize(
    ("role", "shared", "overlapping", "claimed"),
    [("tokens", 18, 0.5, False), ("tokens", 60, 0.5, True), ("tokens", 0, 1.0, True), ("input", 18, 0.5, True)],
)
def test_idioms_of_a_text_are_no_leak(role, shared, overlapping, claimed):
    found = SharedSamples(samples=124, training=1125, shared=shared, compared=32, overlapping=overlapping)
    assert bool(claims("LD510", FieldValues(stage="train", field="batch[0]", role=role), found)) is claimed


@pytest.mark.parametrize(
    ("shared", "samples", "copies", "claimed"),
    [(600, 600, 0, True), (598, 600, 0, False), (600, 600, 12, False), (4000, 4000, 0, False)],
)
def test_pairs_of_ids_that_are_all_in_training(shared, samples, copies, claimed):
    """A table of two small numbers that is tried whole is no leak."""
    training = SampleCopies(samples=7333, copies=copies, compared=2)
    found = SharedSamples(samples=samples, training=7333, shared=shared, compared=2, chance=900, expected=98.0)
    assert bool(claims("LD510", training, found)) is claimed


@pytest.mark.parametrize(
    ("transform", "redrawn", "subject"), [("Flip", 0, "Flip"), ("", 2, "Digits.__getitem__"), ("", 0, None)]
)
def test_an_augmentation_within_the_dataset(transform, redrawn, subject):
    near = AugmentedNeighbours(samples=300, wrong=0.5, raw_samples=200, raw_wrong=0.0, transform=transform)
    draws = AugmentationDraws(samples=4, redrawn=redrawn, dataset="Digits")
    assert [item.subject for item in claims("LD512", draws, near)] == ([subject] if subject else [])


@pytest.mark.parametrize(("change", "claimed"), [(0.0, True), (0.4, False)])
def test_a_rate_that_numbs_the_net_though_the_loss_comes_back(change, claimed):
    losses = (0.69, 0.84, 2.65, 1.3, *[0.75] * 40)
    early = EarlyLosses(losses=losses, update_ratio=4.7, in_use=0.1, name="AdamW", optimizers=1)
    now = InputDependence(function="cross_entropy", samples=13, steps=119, change=change, scale=0.5)
    found = claims("LD601", early, now)
    assert bool(found) is claimed
    assert all("no longer depend on the input" in one.message for one in found)


@pytest.mark.parametrize(("others", "claimed"), [((0.71, 1.26, 0.83), True), ((1.5, 2.05, 1.7), False)])
def test_a_large_fall_in_every_order_is_no_noise(others, claimed):
    contest = LRContest(other=0.02, steps=21, start=2.31, in_use=(2.306, 2.306, 2.306), others=others)
    assert bool(claims("LD602", LRRange(in_use=2e-6, name="AdamW", contest=contest))) is claimed


def test_the_optimizer_that_keeps_its_gradient_is_named():
    seen = GradientCarryover(optimizer="SGD", index=1, optimizers=2, batches=3, steps=3, carried=2, automatic=False)
    [found] = claims("LD603", seen)
    assert "optimizers[1] (SGD)" in found.message
    assert "optimizers[1] (SGD)" in found.fix


@pytest.mark.parametrize(("start", "word"), [(128, "biases at zero and default weights"), (3, "learning rate")])
def test_units_that_are_dead_from_the_start_do_not_blame_the_rate(start, word):
    layer = UnitHealth(function="relu", units=128, silent=128, silent_at_start=start)
    [found] = claims("LD307", ActivationHealth(looks=3, samples=138, steps=30, layers=(layer,)))
    assert word in found.fix


@pytest.mark.parametrize(
    ("name", "kind", "first", "dim", "word"),
    [
        ("gru", "GRU", True, None, "has batch_first=True"),
        ("gru", "GRU", False, None, "Give GRU batch_first=True"),
        ("multi_head_attention_forward", "MultiheadAttention", False, None, "Give MultiheadAttention batch_first=True"),
        ("softmax", "GatedAttention", False, 0, "another dimension than 0"),
    ],
)
def test_how_to_keep_samples_apart(name, kind, first, dim, word):
    call = Place(name=name, module="net", module_type=kind, line="train.py:8", shape=(13, 10), dim=dim)
    seen = SampleMixing(samples=13, mixed=1, first=call, output=call, pair=(1, 2), share=0.9, batch_first=first)
    [found] = claims("LD409", seen)
    assert word in found.fix


def pictures(kind):
    """Smooth pictures (batch, height, width, 3) whose colours differ little, or gratings three rows long."""
    generator = torch.Generator().manual_seed(0)
    across, down = torch.linspace(-3, 3, 24)[:, None], torch.linspace(-2, 2, 24)[:, None, None]
    if kind == "grating":
        return torch.sin(2.1 * 6 * down + torch.rand(96, 1, 1, 1, generator=generator)).expand(96, 24, 24, 3)
    phase, colour = torch.rand(2, 96, 1, 1, 3, generator=generator)
    return torch.sin(across + down + 2 * phase) + torch.rand(96, 1, 1, 1, generator=generator) + colour / 5


@pytest.mark.parametrize("kind", ["smooth", "grating"])
def test_pictures_that_were_reshaped_instead_of_permuted(kind):
    taken = pictures(kind)
    layer = nn.Conv2d(3, 4, 3)
    assert not claims("LD514", *reached(layer, taken.permute(0, 3, 1, 2).contiguous(), LABELS))
    assert not claims("LD514", *reached(layer, torch.rand(96, 3, 24, 24), LABELS))
    found = claims("LD514", *reached(layer, taken.reshape(96, 3, 24, 24), LABELS))
    assert kind == "grating" or "permute(2, 0, 1)" in found[0].fix


def given(step, low, total):
    scores = Operand(
        shape=(60, 10), dim=1, rows=60, count=600, from_model=True, minimum=low, maximum=0.9, row_spread=0.5
    )
    scores = dataclasses.replace(scores, sum_errors=(5.0, abs(total - 1)))
    return LossGraph(step=step, calls=(LossCall(function="cross_entropy", line="train.py:9", scores=scores),))


@pytest.mark.parametrize(
    ("train", "val", "claimed"),
    [((-0.8, 0.2), (0.0, 1.0), True), ((0.0, 1.0), (0.0, 1.0), False), ((-0.8, 0.2), (-0.7, 0.3), False)],
)
def test_a_softmax_in_eval_mode_only(train, val, claimed):
    equal = ValidationLossComparison(relation="equal", value=2.2, training_value=2.2)
    found = claims("LD212", given("training_step", *train), given("validation_step", *val), equal)
    assert bool(found) is claimed


@pytest.mark.parametrize(("rows", "word"), [(64, "dim=-1"), (32, "change the layer before it")])
def test_features_concatenated_over_the_batch(rows, word):
    given = ErrorOperand(name="x", argument="input", shape=(rows, 16), made_by="cat", made_at="train.py:31")
    weight = ErrorOperand(name="mlp.0.weight", kind="parameter", argument="weight", shape=(32, 32))
    about = "Linear(in_features=32, out_features=32, bias=True)"
    found = features(
        ErrorRaised(module="mlp.0", module_type="Linear", module_about=about, operands=(given, weight), batch_size=32),
        given,
        32,
    )
    assert word in found.fix


@pytest.mark.parametrize(("reached", "word"), [(True, "Lower the learning rate"), (False, "Look at")])
def test_what_training_has_made_constant_is_put_down_to_it(reached, word):
    now = InputDependence(samples=13, steps=300, scale=0.5, cause=Place(name="sigmoid", line="train.py:9"))
    [found] = claims("LD309", SampleMixing(samples=13, judged=4, reached=reached), now)
    assert found.fix.startswith(word)
