"""The judge: what it stamps, skips, folds; what a broken rule does; reports and severities."""

import copy
import pickle

import pytest

from lightning_debug.evidence import Moment, ProbeFailure, RuleFailure, RunContext, Unavailable
from lightning_debug.finding import ERROR, INFO, WARNING, Claim, FaultFound, Finding, Report, Severity, Skip
from lightning_debug.judge import fold, judge
from lightning_debug.record import Record
from lightning_debug.registry import all_rules, get
from lightning_debug.rule import rule

META = tuple(one for one in all_rules() if one.code in ("LD001", "LD002"))


def make(code, *outcomes, severity=ERROR, needs=RunContext, explains=(), name="some_fault"):
    def function(record, **thresholds):
        yield from outcomes

    function.__name__ = name
    return rule(code, severity=severity, needs=needs, explains=explains)(function).__rule__


def context(step=0):
    return RunContext(at=Moment(step=step))


def found(code, subject="s", *, severity=ERROR, step=0):
    return Finding(code, code.lower(), severity, "m", subject, {}, "f", Moment(step=step))


def layout(findings):
    return [(item.code, item.subject, item.explained_by) for item in findings]


def test_a_claim_is_stamped():
    claim = Claim("It is.", "net", {"n": 1}, "Do.")
    verdict = judge(Record([context(3), context(5)]), [make("LD299", claim, severity=WARNING)])
    assert verdict.findings == (
        Finding("LD299", "some-fault", WARNING, "It is.", "net", {"n": 1}, "Do.", Moment(step=5)),
    )
    assert verdict.skips == ()


def test_a_rule_is_asked_again_when_what_it_asked_for_has_come_in():
    asked = []

    def some_fault(record):
        asked.append(record.seen(RunContext))
        if record.of(Unavailable):  # beyond what it needs
            yield Claim("It is.", "net", {}, "Do.")

    one = rule("LD299", severity=ERROR, needs=RunContext)(some_fault).__rule__
    record, known = Record([context(1)]), {}

    def told():
        verdict = judge(record, [one], known=known)
        assert verdict == judge(record, [one])
        asked.pop()  # the one that remembers nothing
        return verdict.findings

    assert not told()
    assert not told()
    record.add(ProbeFailure(where="w", error="e", traceback=""))
    assert not told()
    assert asked == [1]
    record.add(Unavailable(evidence="Other", reason="of no matter"))
    assert told()
    assert asked == [1, 1]
    record.add(context(7))
    [finding] = told()
    assert (asked, finding.at.step) == ([1, 1, 2], 7)


def test_what_is_remembered_is_of_one_rule():
    record, known = Record([context()]), {}
    assert not judge(record, [make("LD299")], known=known).findings
    assert judge(record, [make("LD299", Claim("m", "s"))], known=known).findings


def test_a_rule_that_raises_is_asked_again():
    tries = []

    def some_fault(record):
        tries.append(record)
        raise ValueError("once more")

    one, known = rule("LD299", severity=ERROR, needs=RunContext)(some_fault).__rule__, {}
    record = Record([context()])
    for _ in range(2):
        judge(record, [one], known=known)
    assert (len(tries), len(record.of(RuleFailure))) == (2, 1)


def test_a_claim_may_name_its_own_moment():
    at = Moment(stage="validate", step=2)
    verdict = judge(Record([context(5)]), [make("LD299", Claim("m", "s", at=at))])
    assert verdict.findings[0].at == at


def test_the_moment_is_the_newest_of_several_kinds():
    record = Record([context(5), ProbeFailure(where="w", error="e", traceback="", at=Moment(step=9))])
    verdict = judge(record, [make("LD299", Claim("m", "s"), needs=(RunContext, ProbeFailure))])
    assert verdict.findings[0].at.step == 9


def test_one_finding_for_each_subject():
    claims = Claim("first", "a"), Claim("second", "a"), Claim("third", "b")
    verdict = judge(Record([context()]), [make("LD299", *claims)])
    assert [(item.subject, item.message) for item in verdict.findings] == [("a", "first"), ("b", "third")]


def test_missing_evidence_is_a_skip_with_the_reason():
    one = make("LD299", Claim("m", "s"), needs=(RunContext, ProbeFailure))
    assert judge(Record(), [one]).skips == (Skip("no RunContext was recorded", "LD299", "some-fault"),)
    assert judge(Record([context()]), [one]).skips[0].reason == "no ProbeFailure was recorded"
    told = Unavailable(evidence="ProbeFailure", reason="nothing failed")
    other = Unavailable(evidence="RunContext", reason="elsewhere")
    assert judge(Record([context(), told, other]), [one]).skips[0].reason == "nothing failed"


def test_that_this_tool_did_not_fail_is_no_news():
    assert judge(Record([context()]), META).skips == ()


def test_a_rule_may_skip():
    verdict = judge(Record([context()]), [make("LD299", Skip("a"), Skip("a"), Skip("b"), Claim("m", "s"))])
    assert [skip.reason for skip in verdict.skips] == ["a", "b"]
    assert {(skip.code, skip.name) for skip in verdict.skips} == {("LD299", "some-fault")}
    assert len(verdict.findings) == 1


def test_thresholds_reach_their_rule():
    seen = {}

    @rule("LD299", severity=INFO, needs=RunContext)
    def some_fault(record, *, factor=1.0):
        seen["factor"] = factor
        return ()

    judge(Record([context()]), [some_fault.__rule__], {"LD299": {"factor": 4.0}, "LD298": {"other": 1}})
    assert seen == {"factor": 4.0}


def broken():
    @rule("LD298", severity=ERROR, needs=RunContext)
    def bad_rule(record):
        yield Claim("half", "done")
        raise ZeroDivisionError("of ours")

    return bad_rule.__rule__


def test_a_rule_that_raises_is_a_finding_and_the_others_are_judged():
    record = Record([context()])
    verdict = judge(record, [broken(), make("LD299", Claim("m", "s"), severity=INFO), *META])
    assert layout(verdict.findings) == [("LD002", "LD298", None), ("LD299", "s", None)]
    told = verdict.findings[0]
    assert "ZeroDivisionError: of ours" in told.message
    assert "bad_rule" in told.measured["traceback"]
    again = judge(record, [broken(), *META])
    assert record.seen(RuleFailure) == 1
    assert layout(again.findings) == [("LD002", "LD298", None)]


def test_strict_lets_a_rule_raise():
    with pytest.raises(ZeroDivisionError):
        judge(Record([context()]), [broken()], strict=True)


def test_causes_come_worst_first_then_by_time():
    rules = [make(f"LD29{digit}") for digit in range(4)]
    findings = [
        found("LD290", severity=INFO),
        found("LD291", severity=WARNING, step=3),
        found("LD292", severity=WARNING, step=1),
        found("LD293", step=9),
    ]
    assert [item.code for item in fold(findings, rules)] == ["LD293", "LD292", "LD291", "LD290"]


def test_symptoms_fold_under_the_first_of_their_causes():
    rules = [make("LD290", explains=("LD291",)), make("LD291")]
    findings = [found("LD291", "x"), found("LD290", "a", step=2), found("LD290", "b", step=1), found("LD291", "y")]
    assert layout(fold(findings, rules)) == [
        ("LD290", "b", None),
        ("LD291", "x", "LD290"),
        ("LD291", "y", "LD290"),
        ("LD290", "a", None),
    ]


def test_a_chain_folds_under_its_end():
    rules = [make("LD290", explains=("LD291",)), make("LD291", explains=("LD292",)), make("LD292")]
    assert layout(fold([found("LD292"), found("LD291"), found("LD290")], rules)) == [
        ("LD290", "s", None),
        ("LD291", "s", "LD290"),
        ("LD292", "s", "LD290"),
    ]


def test_a_cause_is_as_grave_as_its_gravest_symptom():
    rules = [make("LD290", explains=("LD291",), severity=INFO), make("LD291"), make("LD292", severity=WARNING)]
    findings = [found("LD290", severity=INFO), found("LD291"), found("LD292", severity=WARNING)]
    assert [item.code for item in fold(findings, rules)] == ["LD290", "LD291", "LD292"]


def test_a_symptom_without_its_cause_is_a_headline():
    rules = [make("LD290", explains=("LD291",)), make("LD291")]
    assert layout(fold([found("LD291")], rules)) == [("LD291", "s", None)]


@pytest.mark.parametrize(
    "arrows",
    [
        {"LD290": ("LD291",), "LD291": ("LD290",)},
        {"LD290": ("LD291",), "LD291": ("LD292",), "LD292": ("LD290",)},
        {"LD290": ("LD291", "LD292"), "LD291": ("LD290",)},
        {"LD290": ("LD291",), "LD291": ("LD290",), "LD292": ("LD290",)},
    ],
)
def test_a_circle_of_causes_loses_no_finding(arrows):
    rules = [make(code, explains=arrows.get(code, ())) for code in ("LD290", "LD291", "LD292")]
    findings = [found("LD290"), found("LD291"), found("LD292")]
    result = fold(findings, rules)
    assert sorted(item.code for item in result) == ["LD290", "LD291", "LD292"]
    headlines = {item.code for item in result if item.explained_by is None}
    assert all(item.explained_by in headlines for item in result if item.explained_by)


def test_no_real_rules_explain_each_other_in_a_circle():
    explains = {one.code: set(one.explains) for one in all_rules()}

    def reaches(code, goal, seen=()):
        return any(
            step == goal or (step not in seen and reaches(step, goal, (*seen, step))) for step in explains.get(code, ())
        )

    assert [code for code in explains if reaches(code, code)] == []


def test_units_that_a_rate_killed_are_folded_under_the_rate():
    """A lower rate learns from the same start, so neither dead nor saturated units are faults of their own."""
    explained = {one.code: set(one.explains) for one in all_rules()}["LD601"]
    assert {"LD307", "LD308", "LD309"} <= explained


def test_that_nothing_trains_behind_a_rectifier_that_gives_zeros_alone_is_folded_under_it():
    """Its gradient is zero for every sample."""
    assert "LD408" in {one.code: set(one.explains) for one in all_rules()}["LD207"]


def test_targets_seem_shifted_the_wrong_way_where_outputs_see_beyond_them():
    """A convolution that is padded on both sides sees the target, and the token after it."""
    assert "LD506" in {one.code: set(one.explains) for one in all_rules()}["LD410"]


def test_severities_compare():
    assert ERROR > WARNING > INFO
    assert ERROR >= "error"
    assert WARNING > "info"
    assert INFO <= WARNING
    assert INFO < "warning"
    assert sorted([ERROR, INFO, WARNING]) == [INFO, WARNING, ERROR]
    assert ERROR == "error"
    assert str(WARNING) == f"{WARNING}" == "warning"
    assert {ERROR: 1}["error"] == 1
    with pytest.raises(ValueError, match="critical"):
        _ = ERROR > "critical"


def test_a_report_answers():
    report = Report((found("LD290", severity=WARNING), found("LD291", "x", severity=INFO)))
    assert report.worst is WARNING
    assert report.reaches("warning")
    assert not report.reaches("error")
    assert not report.reaches("never")
    assert not Report().reaches("warning")
    assert Report().worst is None
    assert [item.code for item in report] == ["LD290", "LD291"]
    folded = Report(fold([found("LD290"), found("LD291")], [make("LD290", explains=("LD291",)), make("LD291")]))
    assert [item.code for item in folded.headlines] == ["LD290"]


def test_fault_found_says_the_first_headline_and_survives_pickling():
    error = FaultFound(Report((found("LD290"),)))
    assert str(error) == "LD290 ld290: m"
    again = pickle.loads(pickle.dumps(error))
    assert again.report == error.report
    assert str(again) == str(error)
    assert str(FaultFound(Report())) == "fault found"
    assert copy.deepcopy(error).report == error.report


def test_meta_rules_are_info():
    assert {get(code).severity for code in ("LD001", "LD002")} == {INFO}
    assert Severity("info") is INFO
