"""A rule of this tool raised an exception; the other rules were judged.

What it sees: an exception inside a rule while it judged the recorded evidence.
Why it hurts: it does not hurt the run. What that rule would have found is not known.
How to fix: report it with the JSON report, which holds the evidence and the traceback.
    ``Debugger(strict=True)`` lets the exception through.
When to ignore: whenever the rule is one you do not need; ``ignore=[code]`` switches it off.
Broken:
    Debugger(thresholds={"LD001": {}})  # a rule can only fail through a bug of its own
Repaired:
    Debugger()

Example:
    >>> from lightning_debug.evidence import RuleFailure
    >>> from lightning_debug.record import Record
    >>> [claim.subject for claim in rule_failed(Record([RuleFailure(code="LD201", error="x", traceback="")]))]
    ['LD201']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence import RuleFailure
from lightning_debug.finding import INFO, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD002", severity=INFO, needs=RuleFailure)
def rule_failed(record: Record) -> Iterator[Claim]:
    """Claims one finding for each rule that raised."""
    for failure in record.of(RuleFailure):
        yield Claim(
            message=f"The rule {failure.code} raises {failure.error}; the other rules are judged.",
            subject=failure.code,
            measured={"error": failure.error, "traceback": failure.traceback},
            fix="Nothing in your program needs to change; please report the traceback in report.json.",
            at=failure.at,
        )
