"""What fails of ours, or cannot be written, becomes a finding; training goes on as it would have."""

import pytest
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from lightning_debug import DebugCallback, Debugger, FaultFound
from lightning_debug import debugger as debugger_module
from lightning_debug.callbacks._lightning import HOOKS
from lightning_debug.evidence import ProbeFailure
from tests.healthy import assert_same, fit, make_loaders, make_model, make_trainer, seed
from tests.helpers import alarms, codes


class Counting(DebugCallback):
    """A part that counts batches."""

    def __init__(self):
        self.batches = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches += 1


@pytest.fixture
def with_parts(monkeypatch):
    """Makes Debuggers of other parts."""

    def make(*parts, **options):
        monkeypatch.setattr(debugger_module, "PARTS", parts)
        return Debugger(**{"console": False, **options})

    return make


def failing(*hooks, error=None):
    def hook(self, trainer, pl_module, *arguments, **named):
        raise error or ValueError("a bug of ours")

    return type("Failing", (DebugCallback,), dict.fromkeys(hooks, hook))


@pytest.mark.parametrize("hook", HOOKS)
def test_a_part_that_fails_is_a_finding_and_training_is_the_same(hook, with_parts):
    debugger = with_parts(failing(hook), Counting)
    model, plain = make_model(), make_model()
    for trained, callbacks, folder in ((model, [debugger], "debugged"), (plain, [], "plain")):
        seed()
        trainer = make_trainer(*callbacks, enable_checkpointing=True, default_root_dir=folder)
        trainer.fit(trained, *make_loaders())
        trainer.validate(trained, make_loaders()[1], verbose=False)
        trainer.test(trained, make_loaders()[1], verbose=False)
        trainer.predict(trained, make_loaders()[1])
    assert_same(plain.state_dict(), model.state_dict())
    expected = [] if hook in ("on_exception", "on_load_checkpoint") else [("LD001", f"Failing.{hook}")]
    assert [(item.code, item.subject) for item in debugger.report] == expected
    assert debugger.parts[1].batches == 8, "the other part goes on"
    assert not alarms(debugger.report)


def test_a_hook_that_fails_three_times_is_switched_off(with_parts):
    debugger = with_parts(failing("on_train_batch_start", "on_train_end"))
    fit(debugger)
    failures = debugger.session.record.of(ProbeFailure)
    assert [(item.where, item.given_up) for item in failures] == [
        ("Failing.on_train_batch_start", False), ("Failing.on_train_batch_start", False),
        ("Failing.on_train_batch_start", True), ("Failing.on_train_end", False)]  # fmt: skip
    assert failures[2].at.step == 2
    fit(debugger)
    assert len(debugger.session.record.of(ProbeFailure)) == 4, "it is tried again in the next fit"


def test_strict_lets_a_part_raise(with_parts):
    with pytest.raises(ValueError, match="a bug of ours"):
        fit(with_parts(failing("on_train_batch_start"), strict=True))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FaultFound(Debugger().report)])
def test_what_is_no_failure_goes_through(error, with_parts):
    with pytest.raises(SystemExit if isinstance(error, KeyboardInterrupt) else FaultFound):
        fit(with_parts(failing("on_train_batch_start", error=error)))


def test_a_failure_of_ours_never_replaces_the_users_exception(with_parts):
    error = ArithmeticError("of the user")
    debugger = with_parts(failing("on_exception", "teardown"))
    with pytest.raises(ArithmeticError) as caught:
        make_trainer(debugger).fit(make_model(fail_at=2, error=error), *make_loaders())
    assert caught.value is error
    assert [item.subject for item in debugger.report] == ["Failing.on_exception"]
    assert debugger.report.status == "failed: ArithmeticError: of the user"


def test_a_run_whose_context_cannot_be_read(with_parts, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("moved")

    monkeypatch.setattr("lightning_debug.callbacks._base.run_context", broken)
    started = type("Started", (DebugCallback,), {"on_train_start": lambda self, *a: setattr(self, "started", True)})
    debugger = with_parts(started)
    fit(debugger)
    assert debugger.parts[0].started
    assert [item.subject for item in debugger.report] == ["RunContext"]


class SilentLogger(Logger):
    """Says where it writes once, to Lightning's profiler, and never again."""

    name, version, asked = "silent", 0, False

    @property
    def save_dir(self):
        if self.asked:
            raise OSError("no such share")
        self.asked = True

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *arguments, **options):
        pass


class RefusingLogger(TensorBoardLogger):
    """Its writer takes scalars, and nothing else."""

    @property
    def experiment(self):
        writer = super().experiment
        for name in ("add_text", "add_custom_scalars", "add_figure"):
            setattr(writer, name, refuse)
        return writer


def refuse(*arguments, **options):
    raise OSError("the writer is closed")


@pytest.mark.parametrize("case", ["a file for a folder", "logger without a place", "writer that refuses"])
def test_what_cannot_be_written_is_told_and_does_no_harm(case, tmp_path):
    bare, options = fit(), {}
    (tmp_path / "file").write_text("", encoding="utf-8")
    if case == "a file for a folder":
        debugger = Debugger(report_dir=str(tmp_path / "file" / "sub"), console=False)
    else:
        debugger = Debugger(console=False)
        silent = case == "logger without a place"
        options = {"logger": SilentLogger() if silent else RefusingLogger(str(tmp_path / "logs"))}
    told = fit(debugger, **options)
    assert_same(bare, told)
    assert set(codes(debugger.report)) == {"LD001"}
    assert debugger.report.status == "finished"
