"""What ErrorExplainer leaves alone: healthy programs, others' exceptions, and the exception itself."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_debug import ErrorExplainer, FaultFound
from tests.errors.base import CLASSIFY, net
from tests.errors.runs import Base, loader, run
from tests.helpers import trainer

STEP = "x, y = batch\nreturn F.cross_entropy(self(x), y)"
DATA = "loader(torch.randn(19, 10), torch.randint(3, (19,)))"
HEALTHY = {
    "ragged_last_batch": net("self.net = nn.Linear(10, 3)", "return self.net(x)", STEP, DATA),
    "ragged_in_validation": net(
        "self.net = nn.Linear(10, 3)", "return self.net(x)", STEP, DATA,
        "    def validation_step(self, batch, batch_idx):\n        self.log('val_loss', self.training_step(batch, 0))\n",
        "loader(torch.randn(11, 10), torch.randint(3, (11,)))"),
    "folded_time": net(
        "self.net = nn.Linear(5, 3)", "return self.net(x.flatten(0, 1)).unflatten(0, (x.size(0), -1)).mean(1)", STEP,
        "loader(torch.randn(19, 6, 5), torch.randint(3, (19,)))"),
    "two_views": net(
        "self.net = nn.Linear(10, 3)", "return self.net(torch.cat([x, -x]))",
        "x, y = batch\nreturn F.cross_entropy(self(x), torch.cat([y, y]))", DATA),
    "ignored_labels": net(
        "self.net = nn.Linear(10, 3)", "return self.net(x)",
        "x, y = batch\nreturn F.cross_entropy(self(x), y, ignore_index=-1)",
        "loader(torch.randn(19, 10), torch.arange(19) % 4 - 1)"),
    "padded": net(
        "self.embedding, self.head = nn.Embedding(20, 8, padding_idx=0), nn.Linear(8, 3)",
        "return self.head(self.embedding(x).mean(1))", STEP, "loader(torch.randint(20, (19, 6)), torch.randint(3, (19,)))"),
    "skips_small_batches": net(
        "self.net = nn.Linear(10, 3)", "return self.net(x.view(8, 10))",
        "x, y = batch\nif len(x) < 8:\n    return None\nreturn F.cross_entropy(self(x), y)", DATA),
    "full_batches_only": net(
        "self.net = nn.Linear(10, 3)", "return self.net(x.view(8, 10))", STEP,
        "loader(torch.randn(19, 10), torch.randint(3, (19,)), drop_last=True)"),
    "never_reaches_the_last": net(
        "self.net = nn.Linear(10, 3)", "return self.net(x.view(8, 10))", STEP, DATA, "", "None, limit_train_batches=2"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_program_is_told_nothing(name):
    report, raised = run(HEALTHY[name], name)
    assert raised is None
    assert not report.findings


class Raising(Base):
    """Raises what it is told to, in its second step."""

    def __init__(self, error):
        super().__init__()
        self.net = nn.Linear(4, 2)
        self.error = error

    def training_step(self, batch, batch_idx):
        x, y = batch
        if batch_idx == 1:
            raise self.error
        return F.cross_entropy(self.net(x), y)


def fit(model):
    watch = ErrorExplainer()
    data = loader(torch.randn(16, 4), torch.randint(2, (16,)), batch_size=4)
    trainer(watch, max_epochs=1).fit(model, data)
    return watch


@pytest.mark.parametrize(
    "error",
    [ValueError("my own"), KeyError("mine"), RuntimeError("the file is gone"), FaultFound(ErrorExplainer().report)],
)
def test_an_exception_of_the_users_own_is_not_explained(error):
    watch = ErrorExplainer()
    with pytest.raises(type(error)) as caught:
        trainer(watch, max_epochs=1).fit(
            Raising(error), loader(torch.randn(16, 4), torch.randint(2, (16,)), batch_size=4)
        )
    assert caught.value is error
    assert not watch.report.findings
    assert watch.report.status.startswith("failed")


def test_the_exception_is_unchanged():
    text = net(
        "self.net = nn.Linear(64, 3)",
        "return self.net(x)",
        CLASSIFY,
        "loader(torch.randn(16, 1, 8, 8), torch.randint(3, (16,)))",
    )
    report, raised = run(text, "unchanged")
    assert type(raised) is RuntimeError
    assert str(raised).startswith("mat1 and mat2")
    assert raised.__context__ is None
    frames = []
    traceback = raised.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert frames[-1] == "forward"
    assert report.findings[0].subject == "unchanged.py:8"


def test_it_is_told_before_the_last_batch_comes():
    text = net("self.net = nn.Linear(10, 3)", "return self.net(x.view(8, 10))", STEP, DATA.replace("(19", "(83"))
    seen = []

    class Watch(ErrorExplainer):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append([item.code for item in self.report.findings])

    _, raised = run(text, "foretold", Watch())
    assert raised is not None
    assert seen[0] == ["LD103"]


def test_no_instrument_remains_on_a_step():
    class Looking(Raising):
        def training_step(self, batch, batch_idx):
            assert not torch.overrides._get_current_function_mode_stack()
            assert "training_step" not in vars(self)
            return super().training_step(batch, batch_idx)

    with pytest.raises(ValueError, match="mine"):
        fit(Looking(ValueError("mine")))


def test_where_it_cannot_be_run_again_the_frames_tell():
    text = net(
        "self.net = nn.Linear(64, 3)\nself.generator = (item for item in ())", "return self.net(x)", CLASSIFY,
        "loader(torch.randn(16, 1, 8, 8), torch.randint(3, (16,)))",
    )  # fmt: skip
    report, _ = run(text, "unrepeatable")
    [found] = report.findings
    assert found.code == "LD101"
    assert found.measured["module"] == "net"
    assert "flatten(1)" in found.fix
    assert "not run again" in found.measured["lacking"]


@pytest.mark.parametrize("value", [float("nan"), 2.0])
def test_nan_is_outside_every_range_and_no_raw_output(value):
    class Probabilities(Raising):
        def training_step(self, batch, batch_idx):
            made = self.net(batch[0]).sigmoid() * value
            return F.binary_cross_entropy(made, torch.ones_like(made))

    watch = ErrorExplainer()
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        trainer(watch, max_epochs=1).fit(Probabilities(None), loader(torch.ones(8, 4), torch.zeros(8), batch_size=4))
    assert [item.code for item in watch.report.findings] == ([] if value != value else ["LD117"])
