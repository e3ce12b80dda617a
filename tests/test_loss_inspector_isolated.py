"""LossInspector where a step cannot be watched as it runs: compiled code, fused paths, validation."""

import pytest
import torch
from torch.nn import functional as F

from tests.helpers import codes
from tests.losses.base import QUICK, inspected
from tests.losses.runs import Plain, Transformer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's own, of missing loaders and modes


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)


def test_the_validation_step_is_watched_once_in_isolation():
    _, graphs = inspected(Plain, max_epochs=2, num_sanity_val_steps=1)
    seen = [graph for graph in graphs if graph.step == "validation_step"]
    assert [(graph.live, graph.at.stage, graph.at.epoch) for graph in seen] == [(False, "validate", 0)]
    assert seen[0].calls[0].function == "cross_entropy"


def test_compiled_models_are_run_again_in_isolation():
    class Compiled(Plain):
        def build(self):
            super().build()
            self.net = torch.compile(self.net, backend="eager")

    _, graphs = inspected(Compiled, steps=3)
    assert [graph.live for graph in graphs if graph.step == "training_step"] == [False]
    assert graphs[0].calls[0].origin[0].name == "linear"
    torch._dynamo.reset()


def test_compiled_functions_are_run_again_in_isolation():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    class Compiled(Plain):
        @torch.compile(backend=backend)
        def compare(self, scores, labels):
            return F.cross_entropy(scores.softmax(1), labels)

        def loss(self, x, y):
            return self.compare(self.net(x), y)

    report, graphs = inspected(Compiled, steps=3, limit_val_batches=0)
    assert codes(report) == ["LD201"]
    assert [graph.live for graph in graphs] == [False]
    assert len(compiled) == 1
    torch._dynamo.reset()


def test_transformers_in_eval_mode_are_run_again_in_isolation():
    _, graphs = inspected(Transformer, steps=3)
    assert [graph.live for graph in graphs if graph.step == "training_step"] == [False]
    assert graphs[0].calls[0].scores.shape == (16, 4, 6)


def test_what_cannot_be_repeated_is_said(monkeypatch):
    class Compiled(Plain):
        def build(self):
            super().build()
            self.net = torch.compile(self.net, backend="eager")
            self.stream = (number for number in range(9))

    report, graphs = inspected(Compiled)
    assert not [graph for graph in graphs if graph.step == "training_step"]
    assert {skip.code for skip in report.skips} >= {f"LD20{digit}" for digit in range(1, 9)}
    torch._dynamo.reset()
