"""What a judgement is made of: severity, claim, finding, skip, report."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_debug.evidence import Hindrance, Moment, RunContext


class Severity(str, enum.Enum):
    """How bad a finding is. Severities compare: ``Severity.ERROR > Severity.WARNING``; each equals its name.

    >>> max(Severity.INFO, Severity.ERROR)
    <Severity.ERROR: 'error'>
    >>> Severity.ERROR == "error"
    True
    """

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for info, 1 for warning, 2 for error."""
        return list(Severity).index(self)

    def __str__(self) -> str:
        return self.value

    def __lt__(self, other: object) -> bool:
        return self.rank < Severity(other).rank

    def __le__(self, other: object) -> bool:
        return self.rank <= Severity(other).rank

    def __gt__(self, other: object) -> bool:
        return self.rank > Severity(other).rank

    def __ge__(self, other: object) -> bool:
        return self.rank >= Severity(other).rank

    __hash__ = str.__hash__


INFO, WARNING, ERROR = Severity


@dataclass(frozen=True)
class Claim:
    """What a rule says about a record; the judge adds code, name and moment, and the rule's severity.

    Args:
        message: One sentence in the present tense, with the numbers that prove it.
        subject: What the user would change: a parameter, module path, loader or line of code.
        measured: The numbers behind the message, by name. Plain values.
        fix: The edit that cures it.
        at: When it was seen; by default the moment of the rule's newest evidence.
        severity: A lesser one than the rule's, where what was seen may well be meant, or a higher one, where it is seen
            to ruin the run; by default the rule's.
    """

    message: str
    subject: str
    measured: Mapping[str, Any] = field(default_factory=dict)
    fix: str = ""
    at: Moment | None = None
    severity: Severity | None = None


@dataclass(frozen=True)
class Finding:
    """A claim with its rule's code, name and severity.

    Args:
        code: Such as ``"LD201"``.
        name: Such as ``"softmax-before-cross-entropy"``.
        severity: Error, warning or info.
        message: One sentence with the numbers.
        subject: What the user would change.
        measured: The numbers, by name.
        fix: The edit that cures it.
        at: When it was seen.
        explained_by: Code of the finding this one is a symptom of, or ``None`` for a headline.
        ranks: The ranks that found it, of a run of several that is over; else empty.
    """

    code: str
    name: str
    severity: Severity
    message: str
    subject: str
    measured: Mapping[str, Any]
    fix: str
    at: Moment
    explained_by: str | None = None
    ranks: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What makes two findings the same: code and subject."""
        return self.code, self.subject


@dataclass(frozen=True)
class Skip:
    """A rule that was not judged, and why. A rule yields ``Skip(reason)``; the judge adds code and name.

    Args:
        reason: Half a sentence that can follow "not judged, because".
        code: The rule's code.
        name: The rule's name.
        hindrance: Whether the user can change what stands in the way (a compiled model, too little time), rather than
            that the rule does not apply.
    """

    reason: str
    code: str = ""
    name: str = ""
    hindrance: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.reason, Hindrance):
            object.__setattr__(self, "hindrance", True)
            object.__setattr__(self, "reason", str.__str__(self.reason))


@dataclass(frozen=True)
class Report:
    """All that was found in one run.

    Args:
        findings: Every finding: causes first, each followed by its symptoms; the worst cause leads.
        skips: Rules that were not judged, each with the reason.
        context: How the run was set up, when it came that far.
        status: ``"running"``, ``"finished"``, ``"interrupted"`` or ``"failed: <exception>"``.
    """

    findings: tuple[Finding, ...] = ()
    skips: tuple[Skip, ...] = ()
    context: RunContext | None = None
    status: str = "running"

    @property
    def headlines(self) -> tuple[Finding, ...]:
        """The causes: findings that no other finding explains."""
        return tuple(finding for finding in self.findings if finding.explained_by is None)

    def symptoms(self, cause: Finding) -> tuple[Finding, ...]:
        """The findings folded under ``cause``, in order.

        Symptoms are folded by code, so where a code has several headlines they stand under the first.
        """
        first = next((item for item in self.headlines if item.code == cause.code), None)
        if first != cause:
            return ()
        return tuple(finding for finding in self.findings if finding.explained_by == cause.code)

    @property
    def worst(self) -> Severity | None:
        """The gravest severity found, or ``None`` when nothing was."""
        return max((finding.severity for finding in self.findings), default=None)

    def reaches(self, fail_on: str) -> bool:
        """Whether a finding is at least as grave as ``fail_on`` (``"never"`` is never reached)."""
        return fail_on != "never" and self.worst is not None and self.worst >= Severity(fail_on)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)


class FaultFound(RuntimeError):
    """Raised to stop a fit when a finding is as grave as ``fail_on`` asks.

    Args:
        report: The report at that moment.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        first = next(iter(report.headlines), None)
        super().__init__(f"{first.code} {first.name}: {first.message}" if first else "fault found")

    def __reduce__(self) -> tuple[type[FaultFound], tuple[Report]]:
        return FaultFound, (self.report,)
