"""LD510: validation samples that are training samples with a little noise, and samples that lie near for other reasons."""

import math

import pytest
import torch

from lightning_debug.probes.relation_leak import nearly_equal
from lightning_debug.probes.relation_stream import SampleStream
from tests.test_data_values_rules import seeded

G = seeded(3)


def samples(rows):
    from lightning_debug.probes.batch_roles import batch_roles

    stream = SampleStream()
    stream.add(batch_roles((rows, torch.arange(len(rows)) % 2)), len(rows))
    return stream.samples()


def near(train, validation):
    return nearly_equal(samples(train), samples(validation))


def noise(*shape):
    return torch.randn(*shape, generator=G)


def curves(parameters):
    """Solutions that one parameter decides."""
    return torch.sin(parameters[:, None] * torch.linspace(0.5, 3, 40))


TABLE, PICTURES = noise(400, 12), noise(400, 1, 8, 8)
CLUSTERS = noise(40, 12).repeat(10, 1) + 0.02 * noise(400, 12)
GRID = torch.linspace(0, 6, 400)


@pytest.mark.parametrize("level", [0.01, 0.03])
@pytest.mark.parametrize("train", [TABLE, PICTURES], ids=["table", "pictures"])
def test_copies_with_noise(train, level):
    copies = train[:100] + level * noise(*train[:100].shape)
    assert near(train, torch.cat([copies, noise(100, *train.shape[1:])])) == 100


QUIET = {
    "others": (TABLE, noise(200, 12)),
    "another noise": (TABLE, TABLE[:200] + 0.5 * noise(200, 12)),
    "groups in both": (CLUSTERS, CLUSTERS[:40].repeat(4, 1) + 0.02 * noise(160, 12)),
    "few columns": (torch.cartesian_prod(*[torch.arange(20.0)] * 2).repeat(1, 2)[:, :3], 20 * torch.rand(200, 3)),
    "between the points of a grid": (curves(GRID), curves(GRID[:-1] + math.pi / 300 * torch.rand(399, generator=G))),
    "beside all points of a grid": (curves(GRID), curves(6 * torch.rand(200, generator=G))),
}


@pytest.mark.parametrize("name", QUIET)
def test_quiet(name):
    assert near(*QUIET[name]) < 10
