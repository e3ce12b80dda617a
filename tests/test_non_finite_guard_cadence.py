"""NonFiniteGuard on large gradients: the norm is taken now and then, and nothing bad gets by in between."""

import math

import pytest
import torch
from torch import nn

from lightning_debug import NonFiniteGuard
from lightning_debug.callbacks import _guard_cadence
from lightning_debug.callbacks._guard_cadence import Cadence, Exposure
from lightning_debug.callbacks._guard_step import Clipping, Step
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from lightning_debug.finding import Claim
from lightning_debug.probes.gradient_glimpse import Glimpses, glimpse
from lightning_debug.probes.gradient_norms import total_norm
from lightning_debug.probes.gradient_paths import Paths
from lightning_debug.record import Record
from lightning_debug.rules.ld305_exploding_gradient import exploding_gradient
from tests.guarded import Program, loader, mse, run, table


@pytest.fixture(autouse=True)
def early(monkeypatch):
    """A toy's gradient counts as large, and its first steps are over soon."""
    monkeypatch.setattr(_guard_cadence, "SMALL", 0)
    monkeypatch.setattr(_guard_cadence, "DENSE", 4)


def norms(guard):
    return [norm for window in guard.session.record.of(StepWindow) for norm in window.gradient_norms["gradient_norm"]]


def test_one_norm_in_ten_is_taken_and_every_loss():
    guard, raised = run(Program(), loader(batch_size=4), max_epochs=2)
    assert raised is None
    taken = norms(guard)
    assert len(taken) == 32
    assert [index for index, norm in enumerate(taken) if norm is not None] == [0, 1, 2, 3, 13, 23]
    windows = guard.session.record.of(StepWindow)
    assert sum(window.optimizer_steps for window in windows) == 6
    assert all(loss is not None for window in windows for loss in window.losses["loss"])
    assert not guard.report.findings


@pytest.mark.parametrize("how", [{"max_norm": 1.0}, {"clip_quantile": 0.9}, {"action": "skip"}, {"action": "rollback"}])
def test_who_clips_or_decides_needs_all(how):
    guard, _ = run(Program(), loader(batch_size=4), NonFiniteGuard(**how))
    assert None not in norms(guard)


def test_a_jump_is_measured_there_and_then():
    program = Program(lambda m, b: mse(m, b) * (100.0 if len(m.seen) == 8 else 1.0), lambda p: torch.optim.SGD(p, 1e-6))
    guard, _ = run(program, loader(batch_size=4))
    (norm,) = (norm for norm in norms(guard)[4:13] if norm is not None)
    assert norm > 20 * norms(guard)[3]


def backward_only(module, batch):
    """The loss is finite, the gradient is not."""
    extra = torch.sqrt((module.net[0].bias * 0).square().sum()) if float(batch[0][0, 0]) == 5.0 else 0.0
    return mse(module, batch) + extra


def test_a_gradient_that_is_not_finite_is_traced_before_the_update():
    x, y = table()
    x[28, 0] = 5.0
    guard, _ = run(Program(backward_only), loader(x, y, batch_size=4))
    event = guard.session.record.first(NonFiniteStep)
    assert guard.report.headlines[0].code == "LD303"
    assert (event.origin.kind, event.origin.operation) == ("backward", "sqrt")
    assert math.isnan(next(norm for norm in norms(guard)[4:13] if norm is not None))


def test_a_bad_field_in_between_is_named():
    x, y = table()
    x[30, 3] = torch.nan
    guard, _ = run(Program(), loader(x, y, batch_size=4))
    assert [item.code for item in guard.report.headlines] == ["LD301"]
    assert math.isnan(next(norm for norm in norms(guard)[4:13] if norm is not None))


class Embedded(nn.Module):
    """A table one value of which is 0, where a root has no derivative."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(200, 64), nn.Linear(64, 4)
        nn.init.uniform_(self.table.weight, 0.5, 1.0)
        self.table.weight.data[77, 40] = 0.0

    def forward(self, rows):
        return self.head(self.table(rows).sqrt())


@pytest.mark.parametrize("step", [8, 9, 12])
def test_a_single_bad_value_of_a_large_gradient_is_traced_there_and_then(step):
    rows = torch.randint(0, 77, (64, 1))
    rows[4 * step] = 77
    program = Program(lambda m, b: m.net(b[0]).square().mean(), lambda p: torch.optim.SGD(p, 1e-3), Embedded())
    guard, _ = run(program, loader(rows, batch_size=4))
    event = guard.session.record.first(NonFiniteStep)
    assert event.at.step == step
    assert (event.origin.kind, event.origin.operation, event.weights) == ("backward", "sqrt", ())
    assert [index for index, norm in enumerate(norms(guard)) if norm is not None][:5] == [0, 1, 2, 3, step]


LAYERS = {
    "linear": (lambda: nn.Linear(128, 128), (4, 128)),
    "linear without bias": (lambda: nn.Linear(128, 128, bias=False), (4, 128)),
    "two without bias": (
        lambda: nn.Sequential(nn.Linear(128, 96, bias=False), nn.GELU(), nn.Linear(96, 96, bias=False)),
        (4, 128),
    ),
    "normalised": (lambda: nn.Sequential(nn.Linear(128, 128), nn.LayerNorm(128)), (4, 128)),
    "convolution": (lambda: nn.Conv2d(32, 64, 3), (2, 32, 8, 8)),
    "convolution of signals": (lambda: nn.Conv1d(64, 64, 3, bias=False), (2, 64, 8)),
    "attention": (lambda: nn.TransformerEncoderLayer(128, 4, 256, batch_first=True), (2, 5, 128)),
}


GRAPHS = {
    "layer": (lambda x, w: (x @ w).relu().log_softmax(1).sum() / 3, False),
    "root above the layer": (lambda x, w: (x @ w).abs().sqrt().sum(), False),
    "penalty": (lambda x, w: (x @ w).mean() + (0.1 * w.pow(2).sum() + w.norm()).sqrt() / 2, False),
    "root beneath the layer": (lambda x, w: (x @ w.abs().sqrt()).sum(), True),
    "root beside the layer": (lambda x, w: (x @ w).sum() + w.abs().sqrt().sum(), True),
    "division": (lambda x, w: (x @ (w / w.detach())).sum(), True),
    "half a power": (lambda x, w: (x @ w.abs().pow(0.5)).sum(), True),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_graph_tells_which_gradient_may_have_single_bad_values(name):
    make, exposed = GRAPHS[name]
    weight, unused, paths = torch.ones(8, 4, requires_grad=True), torch.ones(2, requires_grad=True), Paths()
    paths.follow(make(torch.ones(2, 8), weight))
    assert (paths.whole, id(weight) in paths.reached, id(unused) in paths.reached) == (True, True, False)
    assert (id(weight) in paths.exposed) is exposed


@pytest.mark.parametrize("name", LAYERS)
def test_a_glimpse_shows_any_value_that_spoils_a_layer(name):
    """One NaN anywhere in what is handed back to a layer."""
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer = make()
    for _ in range(20):
        layer.zero_grad()
        output = layer(torch.randn(shape))
        handed = torch.randn(output.shape)
        handed.view(-1)[torch.randint(handed.numel(), ())] = torch.nan
        output.backward(handed)
        tensors = [item.grad for item in layer.parameters()]
        assert math.isnan(float(total_norm(tensors)))
        assert math.isnan(glimpse(tensors))
        assert math.isnan(Glimpses(list(layer.parameters())).norm())


def test_a_glimpse_of_matrices_in_a_stack_and_of_odd_gradients():
    stack = torch.nn.Parameter(torch.randn(8, 32, 64))
    handed = torch.randn(8, 4, 64)
    handed[5, 1, 17] = torch.inf
    torch.bmm(torch.randn(8, 4, 32), stack).backward(handed)
    assert not math.isfinite(glimpse([stack.grad]))
    assert glimpse([torch.tensor(3.0), torch.zeros(0), torch.tensor([4.0], dtype=torch.float64)]) == 5.0
    assert glimpse([]) is None
    assert glimpse([torch.zeros(0)]) is None
    assert glimpse([torch.zeros(2, device="meta")]) is None
    assert glimpse([torch.tensor([3.0 + 4.0j])]) == 5.0
    assert glimpse([torch.tensor([0.0 - 2.0j]).conj().imag]) == 2.0  # its sign is not in its memory
    assert glimpse([torch.eye(3).to_sparse()]) is None


def test_a_repeated_glimpse_follows_the_gradients():
    layers = nn.Sequential(nn.Linear(128, 96), nn.LayerNorm(96), nn.Linear(96, 2, bias=False))
    parameters = list(layers.parameters())
    layers(torch.randn(4, 128)).pow(2).sum().backward()
    looks = Glimpses(parameters)
    for _ in range(2):
        layers.zero_grad()
        layers(torch.randn(4, 128)).pow(2).sum().backward()
        assert looks.norm() == glimpse([item.grad for item in parameters])
    parameters[-1].grad = None
    assert looks.norm() == glimpse([item.grad for item in parameters[:-1]])
    parameters[0].grad = parameters[0].grad.to_sparse()
    assert looks.norm() is None
    layers.zero_grad()
    assert looks.norm() is None


def test_a_parameter_that_joins_is_looked_at_at_once():
    layer, late = nn.Linear(8, 4), nn.Parameter(torch.ones(3))
    optimizer, cadence = torch.optim.SGD(layer.parameters(), 0.1), Cadence(Exposure())
    layer(torch.ones(2, 8)).sum().backward()
    for count in range(4):
        assert not cadence.is_calm(optimizer, count, clipped=False)
        step = Step(None, optimizer, Clipping(None, None, 2.0), whole=False)
        assert cadence.due(step, count, clipped=False)
    assert cadence.is_calm(optimizer, 5, clipped=False)
    optimizer.add_param_group({"params": [late]})
    assert not cadence.is_calm(optimizer, 6, clipped=False)


def test_a_jump_is_judged_by_the_norms_that_were_taken():
    losses = (*(2.0 - 0.01 * step for step in range(150)), 0.5, *[9.0] * 20)
    sparse = (*(1.0 if step % 10 == 0 else None for step in range(150)), 400.0, *[None] * 20)
    window = StepWindow(steps=tuple(range(171)), losses={"loss": losses}, gradient_norms={"gradient_norm": sparse})
    (found,) = [item for item in exploding_gradient(Record([window])) if isinstance(item, Claim)]
    assert found.measured["step"] == 150
    few = StepWindow(steps=(0, 1), losses={"loss": (1.0, 1.0)}, gradient_norms={"gradient_norm": (1.0, None)})
    assert not list(exploding_gradient(Record([few])))
    assert few.scalars() == {"loss": 1.0, "gradient_norm": 1.0}


def test_accumulation_takes_each_norm_that_is_ten_batches_late():
    guard, _ = run(Program(), loader(batch_size=4), accumulate_grad_batches=16, max_epochs=3)
    assert None not in norms(guard)
