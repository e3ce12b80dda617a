"""LD515 on a few of many features: one that was prepared otherwise, and those that drift, tick or have heavy tails."""

import dataclasses

import pytest
import torch
from torch import nn

from lightning_debug.evidence.data_values import FirstLayerInput
from tests.test_data_values_rules import claims, reached, values

COUNT = 400


def table(seed):
    return torch.randn(COUNT, 8, generator=torch.Generator().manual_seed(seed))


def with_feature(one, two):
    """Training and validation, whose sixth features are given."""
    found = table(0), table(1)
    for part, column in zip(found, (one, two), strict=True):
        part[:, 5] = column
    return [*values(found[0]), *values(found[1], stage="validate")]


NOISE, OTHER = table(2)[:, 0], table(3)[:, 0]
CLOCK = torch.arange(COUNT) / COUNT
QUIET = {
    "drift": (NOISE, OTHER + 2.5),
    "a clock, cut in time": (CLOCK, 1 + CLOCK / 10),
    "another year": (NOISE.abs() + 10, OTHER.abs() + 14),
    "one site of many": (3 * NOISE, 0.1 * OTHER + 4),
    "heavy tails": (torch.exp(2 * NOISE), torch.exp(2 * OTHER) * torch.where(torch.arange(COUNT) == 7, 500.0, 1.0)),
    "a rare flag": ((NOISE > 3).float(), (OTHER > 0).float()),
    "noisier": (NOISE, 6 * OTHER),
}


@pytest.mark.parametrize("name", QUIET)
def test_one_feature_may_be_another(name):
    assert not claims("LD515", *with_feature(*QUIET[name]))


@pytest.mark.parametrize("way", [1, -1])
def test_one_feature_that_was_not_prepared_is_told(way):
    (told,) = claims("LD515", *with_feature(*[NOISE, 40 * OTHER + 300][::way]))
    assert told.startswith("Feature 5 of batch[0] has mean ")


SCALES = torch.tensor([1.0, 4.0, 2.0, 6.0, 1.5, 3.0, 2.5, 5.0])


def by_column(train, validation):
    """Eight features, each of its own scale, in both sets."""
    return [*values(table(0) * train), *values(table(1) * validation, stage="validate")]


@pytest.mark.parametrize("way", [1, -1])
def test_a_scaler_by_column_in_one_set_alone_is_told(way):
    assert claims("LD515", *by_column(*[torch.ones(8), SCALES][::way]))


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        (torch.ones(8), torch.full((8,), 3.0)),  # all of them move three times as much in a crisis
        (torch.ones(8), SCALES / 3),  # some more, some less: another site
        (SCALES, 3 * SCALES.flip(0)),  # no scaler in either
        (torch.ones(8), torch.tensor([2.0, 2.4, 3.0, 3.6, 2.2, 2.8, 3.3, 2.5])),
    ],
)
def test_what_drifts_is_quiet(train, validation):
    assert not claims("LD515", *by_column(train, validation))


@pytest.mark.parametrize("times", [30, 60])
@pytest.mark.parametrize("way", [1, -1])
def test_a_few_wild_samples_are_no_other_scale(times, way):
    wild = table(0)
    wild[::100] *= times
    assert float(wild.std() / table(1).std()) > 2
    one, other = [wild, table(1)][::way]
    assert not claims("LD515", *values(one), *values(other, stage="validate"))


def layer(stage, mean, deviation):
    return FirstLayerInput(
        stage=stage, field="batch[0]", module="net.0", operation="conv2d", samples=96, shape=(96, 1, 12, 12),
        lowest=mean - 3 * deviation, highest=mean + 3 * deviation, means=(mean,), deviations=(deviation,), zeros=(0.0,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("train", "validation", "told"),
    [
        ((0.0, 0.84), (1.6, 1.8), True),  # with blocks that are blotted out
        ((1.6, 1.8), (0.05, 1.0), True),
        ((0.0, 1.0), (0.0, 1.0), False),
        ((0.9, 1.5), (1.6, 1.8), False),  # noise and blocks on what is not normalised in either
        ((0.0, 0.84), (1.0, 1.1), False),  # both are changed
    ],
)
def test_one_channel_that_one_step_alone_normalises(train, validation, told):
    pictures = 1.6 + 1.8 * torch.randn(2, 96, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    loaders = [*values(pictures[0]), *values(pictures[1], stage="validate")]
    assert bool(claims("LD515", *loaders, layer("train", *train), layer("validate", *validation))) is told


def test_a_loader_beside_one_that_is_like_training_is_another_test():
    """Earlier tasks, whose columns come in another order; the same after the task that is trained is quiet."""
    order = torch.tensor([5, 0, 3, 7, 1, 6, 2, 4])
    lie = torch.arange(8) * 40.0
    train, same, earlier = table(0) + lie, table(1) + lie, (table(2) + lie)[:, order]

    def loader(inputs, index):
        return [dataclasses.replace(item, loader=index) for item in values(inputs, stage="validate")]

    assert claims("LD515", *values(train), *loader(earlier, 0))
    assert not claims("LD515", *values(train), *loader(earlier, 0), *loader(same, 1))
    assert claims("LD515", *values(train), *loader(earlier, 0), *loader(100 + 3 * table(1), 1))
    unscaled = torch.where(torch.arange(8) == 3, 5000 + 900 * same, same)
    assert claims("LD515", *values(train), *loader(unscaled, 0), *loader(unscaled[::2], 1))
    layers = reached(nn.Linear(8, 2), train), reached(nn.Linear(8, 2), earlier, stage="validate")
    assert claims("LD515", *layers[0], *layers[1])
    assert not claims("LD515", *layers[0], *layers[1], *loader(earlier, 0), *loader(same, 1))
