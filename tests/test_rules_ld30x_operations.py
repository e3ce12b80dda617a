"""Operations that make NaN or Inf, forward and backward: each is named, with its line, its reason and a fix."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.guarded import Program, distance, found, scores


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


def log_of_zero(module, batch):
    return -torch.log(F.relu(scores(module, batch))).mean()


def log_of_softmax(module, batch):
    return -(torch.softmax(scores(module, batch) * 1e4, -1).log()).mean()


def entropy(module, batch):
    p = torch.softmax(scores(module, batch) * 1e4, -1)
    return -(p * p.log()).sum(-1).mean()


def log_of_negative(module, batch):
    return torch.log(scores(module, batch)).mean()


def exp_overflow(module, batch):
    return torch.exp(scores(module, batch) * 1e3).mean()


def softmax_by_hand(module, batch):
    e = (scores(module, batch) * 1e3).exp()
    return (e / e.sum(-1, keepdim=True)).square().mean()


def poisson(module, batch):
    rate = scores(module, batch).mul(1e3).exp()
    return (rate - batch[1] * rate.log()).mean()


def constant_row(module, batch):
    h = scores(module, batch) * (torch.arange(16) > 0).unsqueeze(1)
    return ((h - h.mean(1, keepdim=True)) / h.std(1, keepdim=True)).square().mean()


def masked_mean_of_nothing(module, batch):
    mask = torch.zeros(16, 4)
    return ((scores(module, batch) * mask).sum(1) / mask.sum(1)).mean()


def cosine_by_hand(module, batch):
    h = F.relu(scores(module, batch) - 100)
    return (h / h.norm(dim=1, keepdim=True)).sum(1).mean()


def reciprocal(module, batch):
    return (1.0 / F.relu(scores(module, batch))).mean()


def empty_selection(module, batch):
    return scores(module, batch)[batch[1][:, 0] > 1e9].mean()


def std_of_one(module, batch):
    return scores(module, batch).unsqueeze(0).std(0).mean()


def all_ignored(module, batch):
    return F.cross_entropy(scores(module, batch), torch.full((16,), -100))


def hidden_row(module, batch):
    mask = torch.zeros(16, 4, dtype=torch.bool)
    mask[2] = True
    return torch.softmax(scores(module, batch).masked_fill(mask, -torch.inf), -1).square().mean()


def hidden_label(module, batch):
    mask = torch.zeros(16, 4, dtype=torch.bool)
    mask[:, 1] = True
    return F.cross_entropy(scores(module, batch).masked_fill(mask, float("-inf")), torch.ones(16, dtype=torch.long))


def infinite_diagonal(module, batch):
    h = scores(module, batch)
    return (torch.cdist(h, h) + torch.eye(16) * torch.inf).amin(1).mean()


def square_root_of_negative(module, batch):
    return torch.sqrt(scores(module, batch) - 100).mean()


def arc_cosine(module, batch):
    return torch.acos(scores(module, batch) * 100).mean()


def power_of_negative(module, batch):
    return ((scores(module, batch) - 100) ** 0.5).mean()


def singular(module, batch):
    h = scores(module, batch)
    return torch.logdet(h.T @ h * 0).mean()


def unfilled(module, batch):
    weights = torch.zeros(4).fill_(torch.nan)
    return (scores(module, batch) * weights).mean()


def overflow_in_place(module, batch):
    h = scores(module, batch).clone()
    h.mul_(1e30).square_()
    return h.mean()


FORWARD = {
    log_of_zero: ("log-of-zero", "log"),
    log_of_softmax: ("log-of-zero", "log"),
    entropy: ("log-of-zero", "log"),
    log_of_negative: ("log-of-negative", "log"),
    exp_overflow: ("exp-overflow", "exp"),
    softmax_by_hand: ("exp-overflow", "exp"),
    poisson: ("exp-overflow", "exp"),
    constant_row: ("division-by-zero", "div"),
    masked_mean_of_nothing: ("division-by-zero", "div"),
    cosine_by_hand: ("division-by-zero", "div"),
    reciprocal: ("division-by-zero", "rdiv"),
    empty_selection: ("mean-of-nothing", "mean"),
    std_of_one: ("std-of-one", "std"),
    all_ignored: ("no-labels", "cross_entropy"),
    hidden_row: ("fully-masked-row", "softmax"),
    hidden_label: ("label-is-masked", "cross_entropy"),
    infinite_diagonal: (None, "mul"),
    square_root_of_negative: ("sqrt-of-negative", "sqrt"),
    arc_cosine: ("outside-domain", "acos"),
    power_of_negative: ("power-of-negative", "pow"),
    singular: ("singular-matrix", "logdet"),
    unfilled: ("written", "fill"),
    overflow_in_place: ("overflow", "square"),
}


def line_of(step, word):
    """``file:line`` of the last line of a function that holds a word."""
    source, first = inspect.getsourcelines(step)
    numbers = [first + index for index, line in enumerate(source) if word in line]
    return f"{inspect.getsourcefile(step).rpartition('/')[2]}:{numbers[-1]}"


@pytest.mark.filterwarnings("ignore:std\\(\\)")
@pytest.mark.parametrize("step", FORWARD, ids=lambda step: step.__name__)
def test_an_operation_of_the_forward_pass(step):
    reason, operation = FORWARD[step]
    (headline,) = found(step)
    assert headline.code == "LD302"
    assert headline.measured["operation"] == operation
    assert reason is None or headline.measured["reason"] == reason
    words = {"rdiv": "1.0 /", "div": "/ ", "pow": "**", "mul": "eye"}
    assert headline.subject.endswith(line_of(step, words.get(operation, operation)))
    assert headline.fix
    assert headline.at.step == 0


def masked_log(module, batch):
    x = scores(module, batch) * (batch[1] > 0)
    return torch.where(batch[1] > 0, torch.log(x.abs()), torch.zeros(())).mean()


def masked_division(module, batch):
    count = (batch[1] > 0).float()
    h = scores(module, batch)
    return torch.where(count > 0, h / (h * count), torch.zeros(())).mean()


def half_power(module, batch):
    return (scores(module, batch) * 0).abs().pow(0.5).mean()


def arc_sine(module, batch):
    return torch.asin(scores(module, batch).mul(0).add(1)).mean()


BACKWARD = {
    distance: ("sqrt-at-zero", "sqrt"),
    masked_log: ("masked-branch", "log"),
    masked_division: ("masked-branch", "div"),
    half_power: ("sqrt-at-zero", "pow"),
    arc_sine: ("edge-of-domain", "asin"),
}


@pytest.mark.parametrize("step", BACKWARD, ids=lambda step: step.__name__)
def test_an_operation_of_the_backward_pass(step):
    reason, operation = BACKWARD[step]
    (headline,) = found(step)
    assert headline.code == "LD303"
    assert headline.measured["operation"] == operation
    assert headline.measured["reason"] == reason
    assert headline.subject.endswith(line_of(step, {"div": " / "}.get(operation, operation)))
    assert headline.measured["parameters"][0] == "net.2.bias"
    assert headline.measured["count"] == headline.measured["total"] == 4


def test_the_module_is_named():
    class Gate(nn.Module):
        def forward(self, x):
            return torch.log(x.relu())

    (headline,) = found(Program(net=nn.Sequential(nn.Linear(8, 4), Gate())))
    assert headline.measured["module"] == "net.1"
    assert "net.1 (Gate)" in headline.message


class Careless(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient / 0


def own_function(module, batch):
    return Careless.apply(scores(module, batch)).mean()


def test_a_function_of_the_users():
    (headline,) = found(own_function)
    assert (headline.code, headline.measured["operation"]) == ("LD303", "Careless")
    assert "Careless.backward" in headline.fix


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(8, 8, bias=False), nn.Linear(8, 4)
        self.layer.weight.data.copy_(torch.eye(8) * 20)

    def forward(self, x):
        for _ in range(60):
            x = self.layer(x)
        return self.out(x)


def test_values_that_grow_from_layer_to_layer():
    (headline,) = found(Program(net=Repeated()))
    assert headline.measured["reason"] == "overflow"
    assert headline.measured["module"] == "net.layer"
    assert "initialisation" in headline.fix


def test_numpy_in_the_step():
    def step(module, batch):
        return (scores(module, batch) * torch.from_numpy(np.log(-np.ones((16, 4), np.float32)))).mean()

    with np.errstate(invalid="ignore"):
        (headline,) = found(step)
    assert (headline.code, headline.measured["reason"]) == ("LD302", "constant")


def test_a_compiled_net():
    net = torch.compile(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4), nn.ReLU()), backend="eager")
    (headline,) = found(Program(lambda m, b: torch.log(m.net(b[0])).mean(), net=net))
    assert (headline.code, headline.measured["operation"]) == ("LD302", "log")
