"""LD413 under a real Trainer: running statistics that do not fit what batch-norms are given."""

import copy

import pytest
import torch
from torch import nn

from tests.test_model_inspector_faults import classify, findings, vectors


def test_statistics_that_never_move():
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=0.0), nn.ReLU(), nn.Linear(16, 2))
    inputs, labels = vectors()
    found = findings(net, classify, 20 + 30 * inputs, labels, epochs=6)
    assert "momentum" in found["LD413"].fix


def test_a_copy_that_is_averaged_is_not_at_work():
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=0.0), nn.ReLU(), nn.Linear(16, 2))
    net.averaged = copy.deepcopy(net).requires_grad_(requires_grad=False)
    inputs, labels = vectors()
    found = findings(net, lambda net, *batch: classify(net[:4], *batch), 20 + 30 * inputs, labels, epochs=6)
    assert "net.1" in found["LD413"].message
    assert "averaged" not in found["LD413"].message


class OneNorm(nn.Module):
    """Two places of other statistics, with one batch-norm for both or one for each."""

    def __init__(self, *, shared):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 2)
        self.norm = nn.BatchNorm1d(16)
        self.other = self.norm if shared else nn.BatchNorm1d(16)

    def forward(self, inputs):
        hidden = torch.relu(self.norm(self.first(inputs)))
        return self.head(torch.relu(self.other(5 * self.second(hidden) + 8)))


@pytest.mark.parametrize("shared", [True, False])
def test_a_norm_for_several_places(shared):
    inputs, labels = vectors()
    found = findings(OneNorm(shared=shared), classify, inputs, labels, epochs=12)
    assert ("LD413" in found) is shared
    if shared:
        assert "called 2 times" in found["LD413"].message
        assert found["LD413"].fix == "Make a batch-norm of its own for each place that calls `net.norm`."
