"""LossInspector as a callback: what it watches, what it leaves behind, and what it survives."""

import gc
import random
import weakref

import numpy
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug.evidence import ProbeFailure, Unavailable, decode, encode
from lightning_debug.evidence.loss import LossGraph
from tests.helpers import codes, trainer
from tests.losses.base import QUICK, ROWS, Program, Rows, Watcher, classes, inspected
from tests.losses.runs import Manual, Plain, Transformer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's own, of missing loaders and modes


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)


def fingerprint(kind, *callbacks):
    torch.manual_seed(3)
    random.seed(3)
    numpy.random.seed(3)
    program = kind()
    loader = DataLoader(TensorDataset(*program.data()), batch_size=16, shuffle=True)
    fit = trainer(*callbacks, max_epochs=3, num_sanity_val_steps=1)
    fit.fit(program, loader, loader)
    states = [value for item in fit.optimizers for state in item.state.values() for value in state.values()]
    numbers = [*program.state_dict().values(), *states, torch.get_rng_state(), torch.tensor(random.random())]
    numbers += [torch.tensor(numpy.random.rand()), *fit.callback_metrics.values()]
    return [item.clone() for item in numbers if isinstance(item, torch.Tensor)]


@pytest.mark.parametrize("kind", [Plain, Manual, Transformer])
def test_the_run_is_what_it_is_without(kind):
    with_it, without = fingerprint(kind, Watcher()), fingerprint(kind)
    assert len(with_it) == len(without)
    assert all(torch.equal(one, other) for one, other in zip(with_it, without, strict=True))


def test_it_watches_the_first_steps_then_rarely_and_once_in_the_second_epoch():
    torch.manual_seed(0)
    program, watcher = Plain(), Watcher()
    loader = DataLoader(TensorDataset(*classes(4)), batch_size=4)
    trainer(watcher, max_epochs=5, limit_val_batches=0).fit(program, loader)
    assert [graph.at.step for graph in watcher.session.record.of(LossGraph)] == [0, 1, 2, 12, 50]
    assert not watcher.session.record.of(Unavailable)
    assert "training_step" not in vars(program)


def test_what_it_sees_of_one_call():
    class Weighted(Program):
        def data(self):
            inputs, labels = classes(4)
            labels[::4] = -100
            return Rows(image=inputs, label=labels)

        def loss(self, image, label):
            return F.cross_entropy(self.net(image), label, torch.ones(4), ignore_index=-100, label_smoothing=0.1)

    _, graphs = inspected(Weighted)
    graph, call = graphs[0], graphs[0].calls[0]
    assert (graph.step, graph.live, graph.traced, graph.losses, graph.batch_size) == (
        "training_step",
        True,
        True,
        1,
        16,
    )
    assert graph.loss == pytest.approx(call.value)
    assert (call.function, call.reduction, call.weighted, call.label_smoothing) == ("cross_entropy", "mean", True, 0.1)
    assert (call.ignore_index, call.ignored, call.by_hand, call.reaches_loss) == (-100, 0.25, False, True)
    assert call.line.startswith("tests/test_loss_inspector.py:") or "test_loss_inspector.py:" in call.line
    assert call.scores.shape == (16, 4)
    assert call.scores.dim == 1
    assert call.scores.from_model
    assert call.scores.carries_gradient
    assert call.target.field == "batch['label']"
    assert call.target.from_batch
    assert call.target.integral
    assert call.target.minimum >= 0
    assert [item.name for item in call.origin] == ["linear"]
    assert call.origin[0].layer
    assert call.origin[0].module == "net.2"
    assert decode(encode(graph)) == graph


@pytest.mark.parametrize("returned", ["none", "dict", "constant", "vector"])
def test_steps_that_return_other_things(returned):
    class Odd(Program):
        def loss(self, x, y):
            value = F.cross_entropy(self.net(x), y)
            results = {"none": None, "dict": {"loss": value, "extra": "text"}, "constant": value, "vector": value[None]}
            return results[returned]

    report, graphs = inspected(Odd)
    assert not codes(report)
    assert graphs[0].losses == (0 if returned == "none" else 1)
    assert graphs[0].calls[0].reaches_loss


def test_losses_of_manual_optimization_are_what_backward_is_called_on():
    _, graphs = inspected(Manual)
    assert (graphs[0].losses, graphs[0].traced) == (1, True)
    assert graphs[0].loss == pytest.approx(graphs[0].calls[0].value)


def test_a_loss_that_is_only_logged_does_not_reach_the_loss():
    class Logging(Program):
        def loss(self, x, y):
            scores = self.net(x)
            self.log("squeezed", F.cross_entropy(scores.softmax(1), y))
            return F.cross_entropy(scores, y)

    report, graphs = inspected(Logging)
    assert not codes(report)
    assert [call.reaches_loss for call in graphs[0].calls] == [False, True]


def test_an_exception_of_the_step_is_the_users_and_leaves_nothing_behind():
    class Failing(Program):
        def loss(self, x, y):
            raise KeyError("mine")

    program, watcher = Failing(), Watcher()
    with pytest.raises(KeyError, match="mine"):
        trainer(watcher).fit(program, DataLoader(TensorDataset(*classes(4)), batch_size=8))
    assert "training_step" not in vars(program)
    assert not watcher.session.record.of(LossGraph)


def test_an_exception_of_ours_is_told_and_changes_nothing(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "0")
    monkeypatch.setattr("lightning_debug.probes.loss_trace.candidate", lambda *_: 1 / 0)
    program, watcher = Plain(), Watcher()
    fit = trainer(watcher, limit_val_batches=0)
    fit.fit(program, DataLoader(TensorDataset(*classes(4)), batch_size=8))
    assert fit.state.finished
    assert "division by zero" in watcher.session.record.of(ProbeFailure)[0].error


def test_no_tensor_outlives_the_step():
    alive = []

    class Counting(Program):
        def loss(self, x, y):
            scores = self.net(x)
            alive.append((weakref.ref(scores), weakref.ref(x)))
            return F.cross_entropy(scores, y) + ((scores[:, :1] - y[:, None]) ** 2).mean()

        def on_train_batch_end(self, outputs, batch, batch_idx):
            del batch, outputs
            seen.append([item() is None for item in alive[-1]])

    seen = []
    gc.disable()
    try:
        inspected(Counting, limit_val_batches=0)
    finally:
        gc.enable()
    assert seen
    assert all(freed for freed, _ in seen)


def test_a_step_of_many_losses_is_read_in_part():
    class Many(Program):
        def loss(self, x, y):
            return sum(F.cross_entropy(self.net(x[i : i + 1]), y[i : i + 1]) for i in range(len(x)) for _ in range(5))

    _, graphs = inspected(Many, steps=1, limit_val_batches=0)
    assert len(graphs[0].calls) == 64
    assert graphs[0].unread == 16


def test_a_training_step_that_draws_its_own_batches():
    class Iterating(Program):
        def training_step(self, dataloader_iter):
            batch, _, _ = next(dataloader_iter)
            return F.cross_entropy(self.net(batch[0]).softmax(1), batch[1])

    report, graphs = inspected(Iterating, limit_val_batches=0)
    assert codes(report) == ["LD201"]
    assert graphs[0].calls[0].target.from_batch is False


def test_old_findings_do_not_repeat():
    class Softmax(Program):
        def loss(self, x, y):
            return F.cross_entropy(self.net(x).softmax(1), y)

    report, _ = inspected(Softmax, steps=3, max_epochs=3)
    assert codes(report) == ["LD201"]
    assert report.findings[0].at.step == 0


def test_a_hugging_face_model_that_computes_its_own_loss():
    transformers = pytest.importorskip("transformers")

    class Bert(Program):
        batch_size = 4

        def build(self):
            config = transformers.BertConfig(
                vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
            )
            self.net = transformers.BertForSequenceClassification(config)

        def data(self):
            tokens = torch.randint(0, 30, (ROWS, 7))
            return Rows(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=tokens[:, 0] % 2)

        def loss(self, **batch):
            return self.net(**batch).loss

    report, graphs = inspected(Bert)
    assert not codes(report)
    assert [call.function for call in graphs[0].reaching] == ["cross_entropy"]
