"""What a script's runs come to, summed up over sessions and processes."""

import json

import pytest

from lightning_debug._tally import Tally, TallySink, sinks
from lightning_debug.evidence import Moment
from lightning_debug.finding import Finding, Report, Severity
from lightning_debug.record import Record


def finding(code, severity, *, subject="net", explained_by=None):
    return Finding(code, f"name-{code}", Severity(severity), "", subject, {}, "", Moment(), explained_by)


def tally_of(tmp_path, *sessions):
    """Each session is a list of reports, each a list of findings."""
    path = tmp_path / "tally.jsonl"
    path.touch()
    for reports in sessions:
        sink = TallySink(str(path))
        for found in reports:
            sink.on_finding(found)
            sink.on_evidence(found)
            sink.on_report(Report(tuple(found), status="finished"), Record())
    return Tally(path.read_text().splitlines())


def test_nothing_ran(tmp_path):
    tally = tally_of(tmp_path)
    assert str(tally) == "no Trainer ran, so nothing was judged"
    assert tally.worst is None
    assert not any(tally.reaches(word) for word in ("error", "warning", "never"))


@pytest.mark.parametrize(
    ("sessions", "told"),
    [
        ([[[]]], "1 run watched; no fault found"),
        ([[[]], [[]]], "2 runs watched; no fault found"),
        ([[[finding("LD310", "info")]]], "1 run watched; no fault found; worth knowing: LD310 name-LD310"),
        ([[[finding("LD201", "error")]]], "1 run watched; 1 finding: LD201 name-LD201"),
        (
            [[[finding("LD403", "warning"), finding("LD310", "info")]], [[finding("LD201", "error")]]],
            "2 runs watched; 2 findings: LD201 name-LD201, LD403 name-LD403; worth knowing: LD310 name-LD310",
        ),
        ([[[finding("LD304", "error", subject=name) for name in "ab"]]], "1 run watched; 2 findings: LD304 name-LD304"),
        (
            [[[finding("LD301", "error"), finding("LD302", "error", explained_by="LD301")]]],
            "1 run watched; 1 finding: LD301 name-LD301",
        ),
    ],
)
def test_it_says_what_was_found(sessions, told, tmp_path):
    assert str(tally_of(tmp_path, *sessions)) == told


def test_the_last_report_of_a_session_counts(tmp_path):
    tally = tally_of(tmp_path, [[], [finding("LD201", "error")]])
    assert str(tally) == "1 run watched; 1 finding: LD201 name-LD201"


@pytest.mark.parametrize(
    ("severity", "reached"), [("info", set()), ("warning", {"warning"}), ("error", {"warning", "error"})]
)
def test_reaching(severity, reached, tmp_path):
    tally = tally_of(tmp_path, [[]], [[finding("LD201", severity)]])
    assert {word for word in ("error", "warning", "never") if tally.reaches(word)} == reached


def test_half_a_line_is_read_over(tmp_path):
    whole = json.dumps({"session": "a", "worst": None, "headlines": [], "status": "finished"})
    assert str(Tally([whole, whole[:20]])) == "1 run watched; no fault found"


def test_nobody_keeps_one_by_default(monkeypatch):
    assert sinks() == []
    monkeypatch.setenv("LIGHTNING_DEBUG_TALLY", "x")
    assert [type(sink) for sink in sinks()] == [TallySink]
