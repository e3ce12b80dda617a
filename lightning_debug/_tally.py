"""What ``lightning-debug run`` sums up: each session of the script, and of its processes, adds a line to one file."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable
from typing import Any

from lightning_debug.evidence import Evidence
from lightning_debug.finding import Finding, Report, Severity
from lightning_debug.record import Record
from lightning_debug.settings import TALLY


def sinks() -> list[Any]:
    """The sink that keeps the tally, when somebody keeps one: the script's processes inherit the variable."""
    path = os.environ.get(TALLY, "")
    return [TallySink(path)] if path else []


class TallySink:
    """Adds what a report comes to, in one line of JSON.

    Args:
        path: The file to append to.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._session = uuid.uuid4().hex  # from the system, not from a generator that training draws from

    def on_evidence(self, evidence: Evidence) -> None:
        """Does nothing."""

    def on_finding(self, finding: Finding) -> None:
        """Does nothing."""

    def on_report(self, report: Report, record: Record) -> None:
        """Appends the line; the last one of a session counts."""
        found = [[item.severity.value, item.code, item.name] for item in report.headlines]
        worst = report.worst.value if report.worst else None
        line = json.dumps({"session": self._session, "worst": worst, "headlines": found, "status": report.status})
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


class Tally:
    """The sum over the sessions in a tally's lines.

    Args:
        lines: What the sinks wrote.

    >>> line = '{"session": "a", "worst": "error", "headlines": [["error", "LD201", "x"]], "status": "finished"}'
    >>> str(Tally([line]))
    '1 run watched; 1 finding: LD201 x'
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._sessions: dict[str, Any] = {}
        for line in lines:
            with contextlib.suppress(ValueError):  # a process that died while it wrote
                item = json.loads(line)
                self._sessions[item["session"]] = item

    @property
    def worst(self) -> Severity | None:
        """The gravest severity found in any session."""
        found = [Severity(item["worst"]) for item in self._sessions.values() if item["worst"]]
        return max(found, default=None)

    def reaches(self, fail_on: str) -> bool:
        """Whether a finding is at least as grave as ``fail_on`` (``"never"`` is never reached)."""
        return fail_on != "never" and self.worst is not None and self.worst >= Severity(fail_on)

    def __str__(self) -> str:
        runs = len(self._sessions)
        if not runs:
            return "no Trainer ran, so nothing was judged"
        watched = f"{runs} run{'s' * (runs > 1)} watched"
        found = sorted(tuple(one) for item in self._sessions.values() for one in item["headlines"])
        alarms, notes = _names(found, "error", "warning"), _names(found, "info")
        count = sum(severity != "info" for severity, _, _ in found)
        told = f"{count} finding{'s' * (count > 1)}: {alarms}" if count else "no fault found"
        return f"{watched}; {told}" + (f"; worth knowing: {notes}" if notes else "")


def _names(found: Iterable[tuple[str, ...]], *severities: str) -> str:
    return ", ".join(dict.fromkeys(f"{code} {name}" for severity, code, name in found if severity in severities))
