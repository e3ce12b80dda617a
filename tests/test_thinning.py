"""What is read of large batches is not read in step with their samples."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.data_reach import ReachTrace
from lightning_debug.probes.field_kinds import input_kind
from lightning_debug.probes.thinning import even_step


@pytest.mark.parametrize("sizes", [(8, 8), (21, 33), (28, 28), (3,), (30,)])
def test_each_place_of_a_sample_is_met_as_often(sizes):
    places = 1
    for size in sizes:
        places *= size
    step = even_step(40 * places, 2 * places, sizes)
    met = torch.bincount(torch.arange(0, 40 * places, step) % places, minlength=places)
    assert step > 1
    assert met.max() - met.min() <= 1


def test_pictures_with_an_empty_border_are_not_read_in_their_border_alone():
    pictures = torch.full((512, 1, 8, 8), -1.0)
    pictures[..., 1:] = torch.randn(512, 1, 8, 7, generator=torch.Generator().manual_seed(0))
    batch = [pictures, torch.randint(3, (512,))]
    net = nn.Conv2d(1, 4, 3)
    with ReachTrace(net, batch, batch_roles(batch), "validate") as trace:
        F.cross_entropy(net(pictures).mean((2, 3))[:, :3], batch[1])
    (layer,) = trace.layers
    assert layer.deviations[0] == pytest.approx(float(pictures.std()), rel=0.1)


def test_a_table_is_told_by_all_of_its_columns():
    table = torch.randn(4096, 8)
    table[:, 0] = (table[:, 0] > 0).float()
    assert input_kind(table) == "values"
