"""Debugger and DebugCallback: selection, stopping, failing parts, several of them, places that cannot be written."""

import json
import pickle

import pytest
import pytorch_lightning
from pytorch_lightning.loggers import Logger, TensorBoardLogger

import lightning_debug
from lightning_debug import DebugCallback, Debugger, FaultFound
from lightning_debug import debugger as debugger_module
from lightning_debug.callbacks._lightning import HOOKS
from lightning_debug.evidence import ProbeFailure, RunContext
from lightning_debug.finding import WARNING, Claim
from lightning_debug.registry import UnknownRule, all_rules
from lightning_debug.rule import rule
from lightning_debug.settings import SettingsError
from tests.healthy import assert_same, fit, make_loaders, make_model, make_trainer, seed
from tests.helpers import alarms, codes


@rule("LD099", severity=WARNING, needs=RunContext)
def trains_at_all(record, *, factor=1.0):
    """Every run has this fault."""
    yield Claim("It trains.", "model", {"factor": factor}, "Stop it.")


RULES = (*all_rules(), trains_at_all.__rule__)


@pytest.fixture
def faulty(monkeypatch):
    """A rule that every run breaks."""
    monkeypatch.setattr("lightning_debug.registry.all_rules", lambda: RULES)


class Counting(DebugCallback):
    """A part that counts what it is told."""

    produces = (ProbeFailure,)

    def __init__(self):
        self.batches = 0
        self.calls = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches += 1

    def on_exception(self, trainer, pl_module, exception):
        self.calls.append("on_exception")

    def teardown(self, trainer, pl_module, stage):
        self.calls.append("teardown")


def failing(*hooks, error=None):
    def hook(self, trainer, pl_module, *arguments, **named):
        raise error or ValueError("a bug of ours")

    return type("Failing", (DebugCallback,), dict.fromkeys(hooks, hook))


@pytest.fixture
def with_parts(monkeypatch):
    """Makes Debuggers of other parts."""

    def make(*parts, **options):
        monkeypatch.setattr(debugger_module, "PARTS", parts)
        return Debugger(**{"console": False, **options})

    return make


def test_the_report_is_there_during_the_fit(faulty):
    seen = []

    class Watcher(pytorch_lightning.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append((debugger.report.status, codes(debugger.report)))

    debugger = Debugger(console=False)
    assert debugger.report.status == "running"
    with pytest.raises(RuntimeError, match=r"Debugger has no session yet: it starts with trainer.fit"):
        _ = debugger.session
    fit(debugger, Watcher())
    assert seen[0] == ("running", ["LD099"])
    assert debugger.report.status == "finished"


@pytest.mark.parametrize("word", ["LD099", "trains-at-all", "LD09"])
def test_select_and_ignore(word, faulty):
    chosen, left = Debugger(select=[word], console=False), Debugger(ignore=[word], console=False)
    fit(chosen)
    fit(left)
    assert codes(chosen.report) == ["LD099"]
    assert codes(left.report) == []


def test_only_the_parts_that_the_selection_needs(with_parts):
    class Idle(DebugCallback):
        """A part whose evidence no rule needs."""

    assert [type(part) for part in with_parts(Counting, Idle).parts] == [Counting, Idle]
    assert [type(part) for part in with_parts(Counting, Idle, select=["LD002"]).parts] == []
    assert [type(part) for part in with_parts(Counting, Idle, ignore=["LD001"]).parts] == [Idle]
    assert [type(part) for part in with_parts(Counting, Idle, select=["LD0"]).parts] == [Counting]


def test_fail_on_stops_the_fit_with_the_report(faulty, with_parts, tmp_path):
    debugger = with_parts(Counting, fail_on="warning", report_dir=str(tmp_path))
    with pytest.raises(FaultFound, match=r"LD099 trains-at-all: It trains.") as caught:
        fit(debugger)
    assert codes(caught.value.report) == ["LD099"]
    assert debugger.parts[0].batches == 0
    assert debugger.parts[0].calls == ["on_exception"]
    assert debugger.report.status.startswith("failed: FaultFound")
    assert "LD099" in json.dumps(json.loads((tmp_path / "report.json").read_text(encoding="utf-8")))
    assert codes(pickle.loads(pickle.dumps(caught.value)).report) == ["LD099"]
    calm = with_parts(Counting, fail_on="error")
    fit(calm)
    assert codes(calm.report) == ["LD099"]


def test_thresholds_reach_the_rule_and_errors_say_what_is_accepted(faulty):
    debugger = Debugger(thresholds={"trains-at-all": {"factor": 3.0}}, console=False)
    fit(debugger)
    assert debugger.report.findings[0].measured == {"factor": 3.0}
    with pytest.raises(SettingsError, match=r"has no 'facter'; LD099 trains-at-all accepts: factor \(default 1.0\)"):
        Debugger(thresholds={"LD099": {"facter": 3.0}})
    with pytest.raises(SettingsError, match="must be a number"):
        Debugger(thresholds={"LD099": {"factor": "x"}})
    with pytest.raises(UnknownRule, match="did you mean trains-at-all"):
        Debugger(thresholds={"train-at-all": {"factor": 3.0}})
    with pytest.raises(UnknownRule, match="select: 'LD77' fits no rule"):
        Debugger(select=["LD77"])
    with pytest.raises(SettingsError, match="choose from never, warning, error"):
        Debugger(fail_on="sometimes")


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


def test_a_list_of_callbacks_used_again(faulty):
    callbacks = [Debugger(console=False)]
    for package in ("pytorch_lightning", "pytorch_lightning", "lightning.pytorch"):
        fit(*callbacks, package=pytest.importorskip(package))
        assert codes(callbacks[0].report) == ["LD099"]


def test_the_second_of_two_debuggers_is_silent(faulty, capsys):
    first, second = Debugger(console=False), Debugger()
    fit(first, second)
    assert codes(first.report) == ["LD099"]
    assert codes(second.report) == []
    assert "LD099" not in capsys.readouterr().out
    off, on = Debugger(enabled=False), Debugger(console=False)
    fit(off, on)
    assert (codes(off.report), codes(on.report)) == ([], ["LD099"])


@pytest.mark.parametrize("first", [True, False])
def test_the_debuggers_settings_lead(first, faulty, tmp_path, capsys):
    part, debugger = Counting(), Debugger(console=False, report_dir=str(tmp_path / "mine"), ignore=["LD099"])
    fit(*([part, debugger] if first else [debugger, part]))
    assert part.session is debugger.session
    assert part.batches == 8
    assert codes(debugger.report) == []
    assert (tmp_path / "mine" / "report.json").is_file()
    assert not (tmp_path / "lightning_debug").exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("option", ["enabled", "barebones"])
@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
def test_off_is_off(option, faulty, tmp_path, capsys):
    debugger = Debugger(enabled=option != "enabled")
    options = {} if option == "enabled" else {"barebones": True, **dict.fromkeys(
        ("enable_progress_bar", "enable_checkpointing", "enable_model_summary", "logger"))}  # fmt: skip
    trainer = make_trainer(debugger, default_root_dir=str(tmp_path), **options)
    capsys.readouterr()
    trainer.fit(make_model(), *make_loaders())
    assert debugger.report.findings == ()
    assert not (tmp_path / "lightning_debug").exists()
    assert "LD099" not in capsys.readouterr().out


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
def test_what_cannot_be_written_is_told_and_does_no_harm(case, faulty, tmp_path):
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
    assert codes(debugger.report)[0] == "LD099"
    assert set(codes(debugger.report)[1:]) == {"LD001"}
    assert debugger.report.status == "finished"


def test_every_public_name_of_the_base_is_kept():
    assert set(lightning_debug.__all__) >= {"DebugCallback", "Debugger", "FaultFound", "Finding", "Report", "Skip"}
