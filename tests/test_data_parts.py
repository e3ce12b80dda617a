"""LD515 where training joins the batches of several loaders, and validation reads one kind of them."""

import dataclasses

import pytest
import torch

from lightning_debug.evidence.data import FieldValues
from tests.test_data_values_rules import claims, seeded, values

TABLE = torch.randn(96, 6, generator=seeded(3))
OTHER = torch.randn(64, 6, generator=seeded(4))


def part(inputs, name):
    """Evidence of one loader's batches within joined ones."""
    return [
        dataclasses.replace(item, field=f"batch[{name}]{item.field[5:]}") if isinstance(item, FieldValues) else item
        for item in values(inputs)
    ]


@pytest.mark.parametrize("name", [0, "'labelled'"])
def test_validation_is_compared_with_the_part_that_is_made_alike(name):
    assert claims("LD515", *part(TABLE, name), *values(50 + 9 * OTHER, stage="validate"))
    assert not claims("LD515", *part(TABLE, name), *values(OTHER, stage="validate"))


def test_validation_of_either_domain_is_quiet():
    source, target = TABLE, 40 - 8 * TABLE
    joined = [*part(source, 0), *part(target, 1)]
    for healthy in (OTHER, 40 - 8 * OTHER):
        assert not claims("LD515", *joined, *values(healthy, stage="validate"))
    assert claims("LD515", *joined, *values(900 + 300 * OTHER, stage="validate"))


def test_parts_made_otherwise_are_left_alone():
    assert not claims("LD515", *part(TABLE[:, :3], 0), *values(50 + 9 * OTHER, stage="validate"))
