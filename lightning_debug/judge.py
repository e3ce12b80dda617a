"""Judges a record: runs rules, stamps their claims, folds symptoms under their causes."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_debug.evidence import Evidence, Moment, RuleFailure, Unavailable
from lightning_debug.finding import Claim, Finding, Severity, Skip
from lightning_debug.record import Record
from lightning_debug.rule import Rule

Thresholds = Mapping[str, Mapping[str, Any]]

SHARE_THAT_WARNS = 8
"""One rank in so many must find what is no error: tests made on a thousand ranks err on a few."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a judgement.

    Args:
        findings: Causes first, the worst leading, each followed by its symptoms.
        skips: Rules that were not judged, with reasons.
    """

    findings: tuple[Finding, ...] = ()
    skips: tuple[Skip, ...] = ()


@dataclass(frozen=True)
class Judged:
    """What a rule said, and of how much evidence.

    Args:
        rule: Which rule.
        read: How many of each kind that it asked for had been seen.
        findings: What it found.
        skips: What it could not judge.
    """

    rule: Rule
    read: Mapping[type[Evidence], int]
    findings: tuple[Finding, ...]
    skips: tuple[Skip, ...]

    def holds(self, rule: Rule, record: Record) -> bool:
        """Whether the same rule would say the same again: none of what it asked for has come in since."""
        return self.rule is rule and all(record.seen(kind) == count for kind, count in self.read.items())


def judge(
    record: Record,
    rules: Sequence[Rule],
    thresholds: Thresholds | None = None,
    *,
    strict: bool = False,
    known: dict[str, Judged] | None = None,
) -> Verdict:
    """Runs every rule whose evidence is there.

    Args:
        record: The evidence. A rule that raises adds a :class:`RuleFailure` to it (LD002).
        rules: What to judge.
        thresholds: Keyword arguments for rules, by code.
        strict: Whether an exception of a rule goes through.
        known: What the rules said of this record before, by code, with the same thresholds; it is brought up to date.
            A rule is asked again once there is more of a kind of evidence that it has asked for.

    Returns:
        Findings without duplicates (same code and subject: the earliest stays) and skips.
    """
    findings: dict[tuple[str, str], Finding] = {}
    skips: dict[tuple[str, str], Skip] = {}
    ordered = sorted(rules, key=lambda one: RuleFailure in one.needs)  # LD002 last: it reports on the others
    for one in ordered:
        missing = [kind for kind in one.needs if not record.seen(kind)]
        if missing:
            if one.code >= "LD1":  # that this tool did not fail is no news
                skip = _missing(record, missing[0], one)
                skips[one.code, skip.reason] = skip
            continue
        said = known.get(one.code) if known is not None else None
        if said is None or not said.holds(one, record):
            try:
                said = _ask(record, one, (thresholds or {}).get(one.code, {}))
            except Exception as error:
                if strict:
                    raise
                text = "".join(traceback.format_exception(error))
                if not any(failure.code == one.code for failure in record.of(RuleFailure)):
                    record.add(RuleFailure(code=one.code, error=f"{type(error).__name__}: {error}", traceback=text))
                continue
            if known is not None:
                known[one.code] = said
        skips.update({(one.code, skip.reason): skip for skip in said.skips})
        for finding in said.findings:
            findings.setdefault(finding.key, finding)
    return Verdict(fold(findings.values(), rules), tuple(sorted(skips.values(), key=lambda skip: skip.code)))


def merge(verdict: Verdict, others: Mapping[int, Verdict], ranks: int, rules: Sequence[Rule]) -> Verdict:
    """The findings of all ranks, each once and with the ranks that made it; causes and symptoms sorted out anew.

    An error counts whichever rank finds it. A warning that rank 0 has not made counts where one in
    :data:`SHARE_THAT_WARNS` ranks makes it; a note, where rank 0 has none of that code.

    Args:
        verdict: Of rank 0, whose skips stay where no other rank has found what was not judged.
        others: Of the other ranks, as far as they were heard.
        ranks: How many ranks there are.
        rules: What was judged.
    """
    found: dict[tuple[str, str], dict[int, Finding]] = {}
    for rank, said in sorted({**others, 0: verdict}.items()):
        for finding in said.findings:  # what rank 0 was told during the run is of the rank that saw it
            found.setdefault(finding.key, {}).setdefault(finding.at.rank or rank, finding)
    noted = {finding.code for finding in verdict.findings}
    skipped = {rank: {skip.code for skip in said.skips} for rank, said in others.items()}
    merged = []
    for by_rank in found.values():
        first = min(by_rank.items(), key=lambda item: (item[0] != 0, item[1].at.step, item[0]))[1]
        spread = first.severity == Severity.WARNING and len(by_rank) * SHARE_THAT_WARNS >= ranks
        new = first.severity == Severity.INFO and first.code not in noted
        if first in verdict.findings or first.severity == Severity.ERROR or spread or new:
            alone = set(by_rank) == {0} and all(first.code in codes for codes in skipped.values())
            seen = () if alone else tuple(sorted(by_rank))  # that others did not look says nothing of them
            merged.append(dataclasses.replace(first, ranks=seen, explained_by=None))
    made = {finding.code for finding in merged} - noted
    return Verdict(fold(merged, rules), tuple(skip for skip in verdict.skips if skip.code not in made))


def _ask(record: Record, one: Rule, thresholds: Mapping[str, Any]) -> Judged:
    with record.noting() as asked:
        outcomes = list(one.function(record, **thresholds))
    skips = [dataclasses.replace(said, code=one.code, name=one.name) for said in outcomes if isinstance(said, Skip)]
    findings = [_stamp(record, one, said) for said in outcomes if not isinstance(said, Skip)]
    read = {kind: record.seen(kind) for kind in {*one.needs, *asked}}
    return Judged(one, read, tuple(findings), tuple(skips))


def _missing(record: Record, kind: type[Evidence], one: Rule) -> Skip:
    told = [item for item in record.of(Unavailable) if item.evidence == kind.__name__]
    reason, hindrance = (told[-1].reason, told[-1].hindrance) if told else (f"no {kind.__name__} was recorded", False)
    return Skip(reason, one.code, one.name, hindrance)


def _stamp(record: Record, one: Rule, claim: Claim) -> Finding:
    moments = [item.at for kind in one.needs for item in record.of(kind)[-1:]]
    at = claim.at or max(moments, key=lambda moment: moment.step, default=Moment())
    severity = claim.severity or one.severity
    return Finding(one.code, one.name, severity, claim.message, claim.subject, dict(claim.measured), claim.fix, at)


def fold(findings: Iterable[Finding], rules: Iterable[Rule]) -> tuple[Finding, ...]:
    """Orders findings: causes by severity then time, each followed by the symptoms it explains.

    A finding is a symptom when a rule that explains its code has a finding too. Where causes form a
    chain the symptom is folded under the end of the chain; a circle of causes is left unfolded.
    """
    found = list(findings)
    roots = _roots({finding.code for finding in found}, rules)
    weight = {code: max(item.severity.rank for item in found if roots[item.code] == roots[code]) for code in roots}

    def grave(finding: Finding) -> tuple[int, int, str, str]:
        return -finding.severity.rank, finding.at.step, finding.code, finding.subject

    def gravest(finding: Finding) -> tuple[int, tuple[int, int, str, str]]:
        return -weight[finding.code], grave(finding)  # a cause is as grave as its gravest symptom

    result: list[Finding] = []
    for head in sorted((item for item in found if roots[item.code] == item.code), key=gravest):
        first_of_code = all(item.code != head.code for item in result)
        result.append(head)
        if first_of_code:
            under = (item for item in found if roots[item.code] == head.code and item.code != head.code)
            result += (dataclasses.replace(item, explained_by=head.code) for item in sorted(under, key=grave))
    return tuple(result)


def _roots(present: set[str], rules: Iterable[Rule]) -> dict[str, str]:
    """For each code found, the code at the end of its chain of causes (itself, for a headline)."""
    causes: dict[str, list[str]] = {}
    for one in sorted(rules, key=lambda item: item.code):
        if one.code in present:
            for code in present.intersection(one.explains) - {one.code}:
                causes.setdefault(code, []).append(one.code)

    def root(code: str) -> str:
        path = [code]
        while further := [cause for cause in causes.get(path[-1], []) if cause not in path]:
            path.append(further[0])
        return path[-1]

    ends = {code: root(code) for code in present}
    return {code: end if ends[end] == end else code for code, end in ends.items()}  # a circle has no end
