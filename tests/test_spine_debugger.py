"""Debugger and DebugCallback: selection, stopping, failing parts, several of them, places that cannot be written."""

import json
import pickle

import pytest
import pytorch_lightning

import lightning_debug
from lightning_debug import DebugCallback, Debugger, FaultFound
from lightning_debug import debugger as debugger_module
from lightning_debug.evidence import ProbeFailure, RunContext
from lightning_debug.finding import WARNING, Claim
from lightning_debug.registry import UnknownRule, all_rules
from lightning_debug.rule import rule
from lightning_debug.settings import SettingsError
from tests.healthy import fit, make_loaders, make_model, make_trainer
from tests.helpers import codes


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


class Memory:
    """A sink that remembers."""

    def __init__(self):
        self.reports = []

    def on_evidence(self, evidence):
        pass

    on_finding = on_evidence

    def on_report(self, report, record):
        self.reports.append(report)


class LastWords(DebugCallback):
    """Says what it knows when the run ends."""

    def teardown(self, trainer, pl_module, stage):
        self.session.observe(ProbeFailure(where=f"{stage} {id(self)}", error="e", traceback=""))

    def on_exception(self, trainer, pl_module, exception):
        self.session.observe(ProbeFailure(where=f"exception {id(self)}", error="e", traceback=""))


@pytest.mark.parametrize("fails", [False, True])
def test_the_report_is_told_once_when_all_have_said_what_they_know(fails):
    memory, parts = Memory(), [LastWords(), Debugger(console=False), LastWords()]

    class Adding(pytorch_lightning.Callback):
        def on_train_start(self, trainer, pl_module):
            parts[0].session.sinks.append(memory)

    trainer = make_trainer(Adding(), *parts)
    if fails:
        with pytest.raises(ArithmeticError):
            trainer.fit(make_model(fail_at=1, error=ArithmeticError()), *make_loaders())
    else:
        trainer.fit(make_model(), *make_loaders())
    said = [sum(" raises e;" in item.message for item in report.findings) for report in memory.reports]
    assert said == [2]
    assert not any(hasattr(part, "log") and "log" in vars(part) for part in parts)


def test_every_public_name_of_the_base_is_kept():
    assert set(lightning_debug.__all__) >= {"DebugCallback", "Debugger", "FaultFound", "Finding", "Report", "Skip"}


@pytest.mark.parametrize("as_well", [False, True])
def test_a_folder_that_cannot_be_written_is_told_before_the_run(tmp_path, as_well):
    taken = tmp_path / "notes.txt"
    taken.write_text("a file")
    root = tmp_path / "root"
    if as_well:
        root.write_text("another")
    debugger = Debugger(console=False, report_dir=str(taken / "reports"))
    instead = "no report is written" if as_well else "root/lightning_debug"
    with pytest.warns(UserWarning, match=f"report_dir=.*notes.txt is a file; .*{instead}"):
        fit(debugger, default_root_dir=str(root))
    assert (root / "lightning_debug" / "report.json").exists() is not as_well
    assert "LD001" not in {item.code for item in debugger.report.findings}
