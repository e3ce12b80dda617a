"""LD515 by the least value that many values of a field take: it moves with the preparation, not with the data."""

import dataclasses

import pytest
import torch

from lightning_debug.evidence.data_values import FirstLayerInput
from tests.test_data_values_rules import claims, seeded, values

G = seeded(9)


def dark(n, seed, level=1.0):
    """Pictures on a black ground."""
    pictures = torch.rand(n, 1, 12, 12, generator=seeded(seed))
    return (pictures - 0.4).clamp(min=0) * level


TRAIN, VAL = dark(96, 1), dark(64, 2)
MEAN, STD = TRAIN.mean(), TRAIN.std()
RAIN = torch.relu(torch.randn(96, 30, 2, generator=G) - 0.3), torch.relu(torch.randn(96, 30, 2, generator=G) - 0.3)
MOVED = {
    "by a mean": (TRAIN - MEAN, VAL),
    "twice": ((TRAIN - MEAN) / STD, ((VAL - MEAN) / STD - MEAN) / STD),
    "other statistics": ((TRAIN - MEAN) / STD, (VAL - 0.45) / 0.22),
    "series": ((RAIN[0] - 0.2) / 0.4, RAIN[1] / 0.4),
}
QUIET = {
    "one preparation": ((TRAIN - MEAN) / STD, (VAL - MEAN) / STD),
    "each by its own": ((TRAIN - MEAN) / STD, (VAL - VAL.mean()) / VAL.std()),
    "darker": ((TRAIN - MEAN) / STD, (dark(64, 3, 0.6) - MEAN) / STD),
    "less ground": (TRAIN - MEAN, (torch.rand(64, 1, 12, 12, generator=G) - 0.1).clamp(min=0) - 0.05),
    "a ground that is grey": (TRAIN, (VAL + 0.03 * torch.randn(64, 1, 12, 12, generator=G))),
    "noise in training": (TRAIN - MEAN + 0.1 * torch.randn(96, 1, 12, 12, generator=G), VAL),
    "a mark for what is missing": (torch.where(TRAIN > 0.55, -0.2, TRAIN), VAL),
    "no ground": (torch.randn(96, 8, generator=G), torch.randn(64, 8, generator=G) + 0.5),
}


@pytest.mark.parametrize("name", MOVED)
def test_told(name):
    train, val = MOVED[name]
    assert claims("LD515", *values(train), *values(val, stage="validate"))


@pytest.mark.parametrize("name", QUIET)
def test_quiet(name):
    train, val = QUIET[name]
    assert not claims("LD515", *values(train), *values(val, stage="validate"))


def test_a_step_that_moves_one_of_them_back_is_quiet():
    train, val = (TRAIN - MEAN) / STD, (VAL - 0.45) / 0.22
    layer = FirstLayerInput(field="batch[0]", module="net.0", samples=64, means=(0.0,), deviations=(1.0,))
    here = dataclasses.replace(layer, lowest=float(train.min()))
    same = dataclasses.replace(here, stage="validate")
    assert not claims("LD515", *values(train), *values(val, stage="validate"), here, same)
    other = dataclasses.replace(same, lowest=float(val.min()))
    assert claims("LD515", *values(train), *values(val, stage="validate"), here, other)
