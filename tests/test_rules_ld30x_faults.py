"""Programs in which something stops being finite: the cause is the only headline, with the right line and reason."""

from typing import NamedTuple

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from lightning_debug import NonFiniteGuard
from tests.guarded import Program, adam, distance, found, loader, mse, run, scores, sgd, table


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


class Sample(NamedTuple):
    image: torch.Tensor
    target: torch.Tensor
    weight: None = None


class Rows(Dataset):
    """A data set that gives dicts, NamedTuples or tuples."""

    def __init__(self, kind, value, target=False):
        self.x, self.y = table(64)
        (self.y if target else self.x)[37, 2] = value
        self.kind = kind

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x, y = self.x[index], self.y[index]
        if self.kind == "dict":
            return {"features": {"numeric": x, "id": f"row {index}"}, "target": y}
        return Sample(x, y, 0) if self.kind == "named" else (x, y)


def of_any_batch(module, batch):
    if isinstance(batch, dict):
        batch = (batch["features"]["numeric"], batch["target"])
    return F.mse_loss(module.net(batch[0]), batch[1])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    ("kind", "name"),
    [("tuple", "batch[0]"), ("dict", "batch['features']['numeric']"), ("named", "batch.image")],
)
def test_a_bad_cell_of_the_input(kind, name, value):
    (headline,) = found(of_any_batch, DataLoader(Rows(kind, value), batch_size=16))
    assert (headline.code, headline.subject) == ("LD301", name)
    assert headline.measured["rows"] == [37 - 32]
    assert headline.measured["columns"] == [2]
    assert headline.measured["proved_by_replacing"]
    assert headline.at.step == 2


def test_a_bad_cell_of_the_target():
    (headline,) = found(of_any_batch, DataLoader(Rows("tuple", torch.nan, target=True), batch_size=16))
    assert (headline.code, headline.subject) == ("LD301", "batch[1]")


def masked_by_where(module, batch):
    error = (module.net(batch[0]) - batch[1]) ** 2
    return torch.where(batch[1].isnan(), torch.zeros(()), error).mean()


def test_targets_masked_too_late():
    """The loss is finite, but where() lets NaN through backwards."""
    guard, _ = run(Program(masked_by_where), DataLoader(Rows("tuple", torch.nan, target=True), batch_size=16))
    (headline,) = guard.report.headlines
    assert (headline.code, headline.subject) == ("LD301", "batch[1]")
    assert "torch.where" in headline.fix
    assert {item.code for item in guard.report.findings} >= {"LD301", "LD303"}


def test_two_bad_fields_of_which_one_does_no_harm():
    x, y = table()
    x[20, 1] = torch.nan
    harmless = torch.full((64, 1), torch.nan)
    program = Program(lambda m, b: mse(m, b) + 0.0 * b[2].nan_to_num().mean())
    (headline,) = found(program, loader(x, y, harmless))
    assert headline.subject == "batch[0]"


@pytest.mark.parametrize(
    ("optimizer", "step"),
    [
        (sgd(50.0), mse),
        (sgd(1e4), mse),
        (lambda p: torch.optim.SGD(p, lr=5.0, momentum=0.9), lambda m, b: mse(m, b) * 10),
        (lambda p: torch.optim.Adam(p, lr=1e12), mse),
    ],
)
def test_a_learning_rate_far_too_high(optimizer, step):
    (headline,) = found(step, optimizer=optimizer, max_epochs=30)
    assert headline.code in ("LD302", "LD303")
    assert "learning rate" in (headline.subject + headline.fix).lower()
    assert headline.at.step > 0


def test_clipping_is_offered_with_a_norm_of_the_run():
    (headline,) = found(mse, optimizer=sgd(50.0), max_epochs=30)
    assert "NonFiniteGuard(max_norm=" in headline.fix


def test_float16_that_overflows():
    step = lambda m, b: F.mse_loss((m.net(b[0]) * 1e4).half() * 100, b[1].half()).float()  # noqa: E731
    (headline,) = found(step)
    assert headline.measured["reason"] == "half-overflow"
    assert "65504" in headline.message


def half():
    """Float16 autocast with a gradient scaler, which Lightning allows on the CPU as a plugin only."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))


def test_float16_autocast_that_overflows():
    def step(module, batch):
        return (module.net(batch[0] * 1e5) ** 2).mean()

    (headline,) = found(step, plugins=[half()])
    assert headline.code == "LD302"
    assert headline.measured["reason"] == "half-overflow"


def test_a_gradient_that_is_bad_at_every_scale():
    program = Program(distance)
    guard, _ = run(program, plugins=[half()], max_epochs=3)
    (headline,) = guard.report.headlines
    assert headline.code == "LD303"
    assert headline.measured["reason"] == "sqrt-at-zero"
    assert headline.measured["action"] == "scaler"
    assert all(torch.isfinite(item).all() for item in program.parameters())


def test_a_bad_weight_before_training():
    program = Program()
    program.net[2].weight.data[1, 3] = torch.nan
    guard, _ = run(program)
    (headline,) = guard.report.headlines
    assert (headline.code, headline.subject) == ("LD304", "net.2.weight")
    assert "before the first step" in headline.message


def test_a_bad_running_statistic_before_training():
    program = Program(net=nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)))
    program.net[1].running_var[2] = torch.nan
    (headline,) = found(program)
    assert (headline.code, headline.subject) == ("LD304", "net.1.running_var")


def test_a_bad_buffer_that_reaches_the_loss():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(8, 4)
            self.register_buffer("scale", torch.tensor([1.0, torch.nan, 1.0, 1.0]))

        def forward(self, x):
            return super().forward(x) * self.scale

    (headline,) = found(Program(net=Scaled()))
    assert (headline.code, headline.subject) == ("LD304", "net.scale")


def test_an_update_that_makes_a_weight_bad():
    class Division(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            self.param_groups[0]["params"][0].data[0, 0] = torch.inf
            return loss

    guard, _ = run(Program(optimizer=lambda p: Division(p, lr=0.01)))
    (headline,) = guard.report.headlines
    assert (headline.code, headline.subject) == ("LD304", "net.0.weight")
    assert "update" in headline.fix


def test_a_weight_that_a_hook_makes_bad():
    class Normalised(Program):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            rows = self.unused.data
            rows.div_(rows.norm(dim=1, keepdim=True))

    program = Normalised()
    program.unused = nn.Parameter(torch.zeros(3, 2))
    guard, _ = run(program)
    (headline,) = guard.report.headlines
    assert (headline.code, headline.subject) == ("LD304", "unused")
    assert "no gradient was bad until then" in headline.message
    assert "beside the optimizer" in headline.fix


def test_statistics_spoiled_by_one_batch_in_spite_of_a_skip_are_seen():
    x, y = table()
    x[20, 1] = torch.nan
    program = Program(net=nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 4)))
    guard, _ = run(program, loader(x, y), guard=NonFiniteGuard())
    assert {"LD301", "LD304"} <= {item.code for item in guard.report.findings}


def test_dropout_is_repeated_with_the_same_random_numbers():
    """The operation fails only for what this draw of the dropout leaves over."""

    def step(module, batch):
        kept = F.dropout(torch.ones(16), 0.05)
        return (scores(module, batch).mean(1) / kept).mean()

    (headline,) = found(step)
    assert headline.measured["operation"] == "div"


def test_two_faults_in_a_run_that_skips_are_both_told():
    x, y = table(64)
    x[5, 0] = torch.nan

    def step(module, batch):
        return mse(module, batch) + torch.log((batch[1][0, 0] != y[48, 0]).float())

    guard, _ = run(Program(step, adam), loader(x, y), guard=NonFiniteGuard(action="skip"))
    codes = [item.code for item in guard.report.findings]
    assert codes[0] == "LD301"
    assert any(item.code == "LD302" and item.measured.get("operation") == "log" for item in guard.report.findings)


def validated(module, batch):
    return -torch.distributions.Normal(module.net(batch[0]), 1.0, validate_args=True).log_prob(batch[1]).mean()


def validated_log(module, batch):
    scale = torch.log(F.relu(module.net(batch[0])))
    return -torch.distributions.Normal(0.0, scale, validate_args=True).log_prob(batch[1]).mean()


def test_a_step_that_raises_over_a_bad_cell():
    guard, raised = run(Program(validated), DataLoader(Rows("tuple", torch.nan), batch_size=16))
    assert isinstance(raised, ValueError)
    (headline,) = guard.report.headlines
    assert (headline.code, headline.subject) == ("LD301", "batch[0]")
    assert "ValueError" in headline.message


def test_a_step_that_raises_over_an_operation():
    guard, raised = run(Program(validated_log))
    assert isinstance(raised, ValueError)
    (headline,) = guard.report.headlines
    assert (headline.code, headline.measured["operation"]) == ("LD302", "log")


def test_anomaly_detection_that_raises_first():
    guard, raised = run(Program(distance), detect_anomaly=True)
    assert isinstance(raised, RuntimeError)
    (headline,) = guard.report.headlines
    assert (headline.code, headline.measured["operation"]) == ("LD303", "sqrt")


def test_an_error_that_has_nothing_to_do_with_it():
    guard, raised = run(Program(lambda m, b: m.net(b[1])))
    assert isinstance(raised, RuntimeError)
    assert guard.report.findings == ()


class Adversarial(Program):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        generator, critic = self.optimizers()
        fake = self.net[:2](torch.randn_like(batch[0]))
        loss = -torch.log(torch.sigmoid(self.net[2](fake.detach()) * 1e4)).mean()
        critic.zero_grad()
        self.manual_backward(loss)
        critic.step()
        generator.zero_grad()
        self.manual_backward(-F.logsigmoid(self.net[2](fake)).mean())
        generator.step()

    def configure_optimizers(self):
        return [adam(self.net[0].parameters()), adam(self.net[2].parameters())]


def test_the_first_of_two_optimizers():
    guard, _ = run(Adversarial())
    (headline,) = guard.report.headlines
    assert (headline.code, headline.measured["operation"]) == ("LD302", "log")
    assert "logsigmoid" in headline.fix


def test_an_epsilon_of_zero():
    (headline,) = found(lambda m, b: mse(m, b) * 0, optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, eps=0.0))
    assert headline.code == "LD304"
    assert "eps above 0" in headline.fix
