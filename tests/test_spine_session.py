"""Session: what it tells whom, and when; what a broken sink or probe does. Schedules, too."""

import pickle

import pytest

from lightning_debug.evidence import Moment, ProbeFailure, RunContext
from lightning_debug.finding import ERROR, INFO, WARNING, Claim, FaultFound
from lightning_debug.registry import all_rules
from lightning_debug.rule import rule
from lightning_debug.schedule import at, either, every, first
from lightning_debug.session import Session
from lightning_debug.settings import Settings

META = tuple(one for one in all_rules() if one.code in ("LD001", "LD002"))


class Memory:
    """A sink that remembers."""

    def __init__(self):
        self.evidence, self.findings, self.reports = [], [], []

    def on_evidence(self, evidence):
        self.evidence.append(evidence)

    def on_finding(self, finding):
        self.findings.append(finding)

    def on_report(self, report, record):
        self.reports.append((report, len(record)))


class FullDisk(Memory):
    def on_report(self, report, record):
        raise OSError(28, "No space left on device")


@rule("LD299", severity=WARNING, needs=RunContext)
def some_fault(record):
    for item in record.of(RunContext):
        yield Claim("m", item.model)


@rule("LD298", severity=ERROR, needs=RunContext)
def grave_fault(record):
    if record.seen(RunContext) > 1:
        yield Claim("grave", "s")


RULES = (some_fault.__rule__, grave_fault.__rule__, *META)


def session(*sinks, **settings):
    return Session(Settings(**settings), RULES, sinks)


def test_each_finding_is_told_once():
    sink = Memory()
    one = session(sink)
    one.observe(RunContext(model="a"))
    assert sink.findings == []
    one.judge()
    one.judge()
    one.observe(RunContext(model="b"))
    one.observe(RunContext(model="a"))
    report = one.judge()
    assert [(item.code, item.subject) for item in sink.findings] == [("LD299", "a"), ("LD298", "s"), ("LD299", "b")]
    assert len(sink.evidence) == 3
    assert report is one.report
    assert report.status == "running"


def test_nothing_is_judged_twice_without_new_evidence():
    calls = []

    @rule("LD297", severity=INFO, needs=RunContext)
    def counted(record):
        calls.append(1)
        return ()

    one = Session(Settings(), [counted.__rule__])
    one.observe(RunContext())
    one.judge()
    one.judge()
    one.add_rules([])
    one.judge()
    assert len(calls) == 1
    one.observe(RunContext())
    one.judge()
    assert len(calls) == 2


def test_closing_tells_the_report_once():
    sink = Memory()
    one = session(sink)
    one.observe(RunContext(model="a"))
    report = one.close()
    assert report.status == "finished"
    assert report.context == RunContext(model="a")
    assert one.close("failed: later") is one.report
    assert one.report.status == "finished"
    assert sink.reports == [(report, 1)]


def test_what_is_found_after_the_end_is_told_again():
    sink = Memory()
    one = session(sink)
    one.close("failed: ValueError: x")
    one.observe(RunContext(model="late"))
    one.close()
    assert [report.status for report, _ in sink.reports] == ["failed: ValueError: x"] * 2
    assert [item.subject for item in sink.reports[1][0]] == ["late"]


def test_selection_and_thresholds_apply():
    one = session(select=("LD0",))
    assert {item.code for item in one.rules} == {"LD001", "LD002"}


@pytest.mark.parametrize(("fail_on", "codes"), [("never", None), ("warning", "LD299"), ("error", "LD298")])
def test_fail_on(fail_on, codes):
    one = session(fail_on=fail_on)
    one.observe(RunContext(model="a"))
    if fail_on == "warning":
        with pytest.raises(FaultFound, match="LD299 some-fault: m") as caught:
            one.judge()
        assert caught.value.report is one.report
    else:
        one.judge()
    one.observe(RunContext(model="a"))
    if fail_on == "error":
        with pytest.raises(FaultFound, match="LD298"):
            one.judge()
    else:
        one.judge()  # it fails once: the exception is under way
    assert one.close("failed: FaultFound").status == "failed: FaultFound"


def test_nothing_fails_once_the_run_is_over():
    one = session(fail_on="warning")
    one.observe(RunContext(model="a"))
    assert len(one.close().findings) == 1


def test_a_sink_that_fails_is_told_once_and_not_asked_again():
    class Broken(Memory):
        def on_evidence(self, evidence):
            raise OSError("no space left")

    good, bad = Memory(), Broken()
    one = session(bad, good)
    one.observe(RunContext(model="a"))
    one.observe(RunContext(model="a"))
    one.judge()
    assert one.sinks == [good]
    assert [(item.code, item.subject) for item in one.report] == [
        ("LD298", "s"), ("LD299", "a"), ("LD001", "Broken.on_evidence")]  # fmt: skip
    assert good.findings == list(one.report)


def test_a_full_disk_at_the_end_is_in_the_report():
    good, bad = Memory(), FullDisk()
    one = session(bad, good)
    one.observe(RunContext(model="a"))
    report = one.close()
    assert [(item.code, item.subject) for item in report] == [("LD299", "a"), ("LD001", "FullDisk.on_report")]
    assert "No space left on device" in report.findings[1].message
    assert good.findings[-1].code == "LD001"
    assert len(good.reports) == 1
    one.close()
    assert len(good.reports) == 1


def test_strict_lets_a_sink_raise():
    one = session(FullDisk(), strict=True)
    with pytest.raises(OSError, match="No space left"):
        one.close()


def test_guarded_turns_our_exception_into_evidence():
    one = session()
    with one.guarded("Some.hook", Moment(step=4), given_up=True):
        raise ValueError("of ours")
    failure = one.record.last(ProbeFailure)
    assert (failure.where, failure.error, failure.given_up, failure.at.step) == (
        "Some.hook", "ValueError: of ours", True, 4)  # fmt: skip
    assert "in test_guarded_turns" in failure.traceback
    assert "switched off for the rest of the fit" in one.judge().findings[0].message


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), FaultFound(Session(Settings()).report)])
def test_guarded_lets_through_what_is_not_ours(error):
    one = session()
    with pytest.raises(type(error)), one.guarded("Some.hook"):
        raise error
    assert not one.record.seen(ProbeFailure)


def test_guarded_is_strict_where_asked():
    with pytest.raises(ValueError, match="of ours"), session(strict=True).guarded("Some.hook"):
        raise ValueError("of ours")


def test_schedules():
    def due(schedule):
        return [step for step in range(12) if schedule(step)]

    assert due(first(0)) == []
    assert due(first(3)) == [0, 1, 2]
    assert due(every(5)) == [0, 5, 10]
    assert due(at(2, 11, 99)) == [2, 11]
    assert due(either(first(1), every(4), at(5))) == [0, 4, 5, 8]
    assert due(either()) == []
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        every(0)


@pytest.mark.parametrize("schedule", [first(3), every(2), at(4), either(first(1), at(3))])
def test_schedules_survive_pickling(schedule):
    again = pickle.loads(pickle.dumps(schedule))
    assert [again(step) for step in range(9)] == [schedule(step) for step in range(9)]
