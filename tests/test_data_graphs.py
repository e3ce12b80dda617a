"""Nodes of graphs, whose rows are parts of samples, as inputs of the rules on values."""

import torch
from torch import nn

from lightning_debug.finding import Claim
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.data_reach import ReachTrace
from lightning_debug.record import Record
from lightning_debug.registry import get


class Graphs:
    """Several graphs as one: nodes below each other, and which graph each belongs to."""

    def __init__(self, generator, scale):
        counts = torch.randint(5, 15, (16,), generator=generator)
        nodes = int(counts.sum())
        self.x = torch.randn(nodes, 6, generator=generator) * scale
        self.edge_index = torch.randint(0, nodes, (2, 3 * nodes), generator=generator)
        self.batch = torch.repeat_interleave(torch.arange(16), counts)
        self.ptr = torch.cat([torch.zeros(1), counts.cumsum(0)]).long()
        self.y = torch.randint(0, 2, (16,), generator=generator)


class Net(nn.Module):
    """Nodes, their neighbours, and the mean of each graph."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, graphs):
        hidden = self.first(graphs.x).relu()
        hidden = hidden.index_add(0, graphs.edge_index[1], hidden[graphs.edge_index[0]])
        return self.last(torch.zeros(16, 16).index_add(0, graphs.batch, hidden) / graphs.ptr.diff()[:, None])


def seen(scale, stage="train", seed=0):
    generator, net, found = torch.Generator().manual_seed(seed), Net(), []
    for _ in range(3):
        graphs = Graphs(generator, scale)
        with (watch := ReachTrace(net, graphs, batch_roles(graphs), stage)):
            nn.functional.cross_entropy(net(graphs), graphs.y)
        assert watch.error is None
        found += watch.layers
    return found


def told(code, *evidence):
    return [item.subject for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


def test_features_of_nodes_are_inputs():
    raw = torch.tensor([1.0, 1.0, 3000.0, 0.01, 1.0, 1.0])
    assert not told("LD501", *seen(1.0))
    assert told("LD501", *seen(raw)) == ["batch.x"]


def test_nodes_of_validation_are_prepared_as_those_of_training():
    healthy = seen(1.0)
    assert not told("LD515", *healthy, *seen(1.0, "validate", seed=1))
    assert told("LD515", *healthy, *seen(80.0, "validate", seed=1)) == ["batch.x"]
