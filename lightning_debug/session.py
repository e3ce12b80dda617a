"""Session: observe -> record -> judge -> sinks. The one mutable object."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from lightning_debug.evidence import Evidence, Moment, ProbeFailure, RunContext
from lightning_debug.finding import FaultFound, Finding, Report
from lightning_debug.judge import Judged, Verdict, judge, merge
from lightning_debug.record import Record
from lightning_debug.rule import Rule
from lightning_debug.settings import Settings


class Sink(Protocol):
    """Where evidence, findings and reports are shown. It decides nothing."""

    def on_evidence(self, evidence: Evidence) -> None:
        """Called with every piece of evidence as it is recorded."""

    def on_finding(self, finding: Finding) -> None:
        """Called once for each finding, when it is first made."""

    def on_report(self, report: Report, record: Record) -> None:
        """Called when the run ends, however it ends; again if more was found after that."""


class Session:
    """One run under observation.

    Args:
        settings: What to judge and what to do about it.
        rules: The rules to judge, before ``settings`` selects among them.
        sinks: Where to show what is found.
    """

    def __init__(self, settings: Settings, rules: Iterable[Rule] = (), sinks: Iterable[Sink] = ()) -> None:
        self.settings = settings
        self.sinks = list(sinks)
        self.kinds: set[type[Evidence]] = set()
        """What the callbacks that take part can produce."""
        self.record = Record()
        self.roster = 0
        """Changes whenever a hook of a callback that takes part begins or ends to rest."""
        self.status = "running"
        self.report = Report()
        self._rules: dict[str, Rule] = {}
        self._said: set[tuple[str, str]] = set()
        self._stale = True
        self._shown: Report | None = None
        self._failing = False
        self._others: Mapping[int, Verdict] | None = None
        self._known: dict[str, Judged] = {}
        self._ranks = 1
        self.add_rules(rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules this session judges."""
        return self.settings.selection.rules(self._rules.values())

    @property
    def is_stale(self) -> bool:
        """Whether something was recorded since it was judged."""
        return self._stale

    def add_rules(self, rules: Iterable[Rule]) -> None:
        """Has more rules judged from now on."""
        self._rules.update({one.code: one for one in rules})
        self._stale = True

    def observe(self, evidence: Evidence) -> None:
        """Records one piece of evidence. It is judged at the next :meth:`judge`."""
        self.record.add(evidence)
        self._stale = True
        self._tell("on_evidence", evidence)

    def hear(self, others: Mapping[int, Report], ranks: int) -> None:
        """Takes over, on rank 0, what the sessions of other ranks have found; the report names the ranks then.

        Args:
            others: Their reports, by rank.
            ranks: How many ranks there are.
        """
        told = {rank: Verdict(report.findings, report.skips) for rank, report in others.items()}
        self._others, self._ranks, self._stale = {**(self._others or {}), **told}, ranks, True

    def judge(self) -> Report:
        """Judges the record if there is new evidence; tells sinks what is new.

        Raises:
            FaultFound: If a new finding is as grave as ``settings.fail_on`` and the run is not over.
        """
        if not self._stale:
            return self.report
        self._stale = False
        verdict = judge(
            self.record, self.rules, self.settings.thresholds, strict=self.settings.strict, known=self._known
        )
        if self._others is not None:
            verdict = merge(verdict, self._others, self._ranks, self.rules)
        self.report = Report(verdict.findings, verdict.skips, self.record.last(RunContext), self.status)
        fresh = [finding for finding in self.report.findings if finding.key not in self._said]
        for finding in fresh:
            self._said.add(finding.key)
            self._tell("on_finding", finding)
        grave = Report(tuple(fresh)).reaches(self.settings.fail_on)
        if grave and self.status == "running" and not self._failing:
            self._failing = True
            raise FaultFound(self.report)
        return self.report

    def close(self, status: str = "finished") -> Report:
        """Ends the run: judges what is left and has the report written. Harmless when repeated."""
        if self.status == "running":
            self.status = status
            self._stale = True
        self.judge()
        if self._shown != self.report:
            self._tell("on_report", self.report, self.record)
            self._shown = self.judge()  # a sink that failed just now is in the report, and needs no second showing
        return self.report

    @contextlib.contextmanager
    def guarded(self, where: str, at: Moment | None = None, *, given_up: bool = False) -> Iterator[None]:
        """Turns an exception of ours into :class:`ProbeFailure` evidence (LD001), unless ``strict``.

        ``FaultFound`` and what is no ``Exception`` (KeyboardInterrupt) go through.
        """
        try:
            yield
        except FaultFound:
            raise
        except Exception as error:
            if self.settings.strict:
                raise
            self.failed(where, error, at, given_up=given_up)

    def failed(self, where: str, error: Exception, at: Moment | None = None, *, given_up: bool = False) -> None:
        """Records that ``where`` raised ``error``."""
        self.observe(failure(where, error, at, given_up=given_up))

    def _tell(self, event: str, *arguments: object) -> None:
        for sink in list(self.sinks):
            try:
                getattr(sink, event)(*arguments)
            except Exception as error:
                if self.settings.strict:
                    raise
                self.sinks.remove(sink)  # a full disk or a broken logger is told once, and not asked again
                self.failed(f"{type(sink).__name__}.{event}", error)


def failure(where: str, error: Exception, at: Moment | None = None, *, given_up: bool = False) -> ProbeFailure:
    """What is recorded of an exception of ours: text, which keeps no frame and nothing of the run alive."""
    text = "".join(traceback.format_exception(error))
    return ProbeFailure(where=where, error=summary(error), traceback=text, given_up=given_up, at=at or Moment())


def summary(error: BaseException) -> str:
    """Class and text of an exception, which may have no text, or raise when it is asked for one.

    >>> summary(ValueError("no")), summary(KeyboardInterrupt())
    ('ValueError: no', 'KeyboardInterrupt')
    """
    name = type(error).__name__
    try:
        text = str(error)
    except Exception as another:
        return f"{name}, whose text raises {type(another).__name__}"
    return f"{name}: {text}" if text else name
