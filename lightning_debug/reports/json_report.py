"""The report as JSON: versioned, strict, and enough to judge the run again.

``report.json`` holds one object (README.md beside this file describes every field)::

    {
      "schema": "lightning_debug/1",
      "settings": {"select": [], "ignore": [], "thresholds": {}},
      "report": {
        "status": "finished",
        "findings": [
          {"code", "name", "severity", "message", "subject", "measured", "fix", "at", "explained_by", "ranks"}
        ],
        "skips": [{"code", "name", "reason", "hindrance"}],
        "context": {...} or null
      },
      "record": {"seen": {"<kind>": <count>}, "evidence": [{"kind", "at", ...}]}
    }

Non-finite numbers are the strings ``"nan"``, ``"inf"`` and ``"-inf"``. Within one version fields may be added
and are never renamed or removed; the number changes when they are.

>>> import json
>>> report, record = from_document(json.loads(to_json(Report(status="finished"), Record())))
>>> report.status, len(record)
('finished', 0)
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from lightning_debug.evidence import Evidence, RunContext, from_plain, to_plain
from lightning_debug.finding import Finding, Report, Severity, Skip
from lightning_debug.record import Record
from lightning_debug.reports._files import is_worth_a_file, write_text

SCHEMA = "lightning_debug/1"
"""Name and version of what is written."""


def to_document(report: Report, record: Record, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The report and the whole record as JSON-ready values.

    Args:
        report: What was found.
        record: All evidence that was kept.
        settings: ``select``, ``ignore`` and ``thresholds`` that were in force.
    """
    return {
        "schema": SCHEMA,
        "settings": {"select": [], "ignore": [], "thresholds": {}, **_tolerant(settings or {})},
        "report": {
            "status": report.status,
            "findings": [_finding(one) for one in report.findings],
            "skips": [dataclasses.asdict(skip) for skip in report.skips],
            "context": None if report.context is None else to_plain(report.context),
        },
        "record": record.to_plain(),
    }


def to_json(report: Report, record: Record, settings: Mapping[str, Any] | None = None) -> str:
    """:func:`to_document` as text: strict JSON in ASCII, each piece of evidence on a line of its own."""
    document = to_document(report, record, settings)
    told = {name: _dumps(value, indent=1).replace("\n", "\n ") for name, value in document.items() if name != "record"}
    evidence = ",\n".join(f"   {_dumps(item)}" for item in document["record"]["evidence"])
    lines = [
        "{",
        *(f' "{name}": {text},' for name, text in told.items()),
        ' "record": {',
        f'  "seen": {_dumps(document["record"]["seen"])},',
        f'  "evidence": [\n{evidence}\n  ]' if evidence else '  "evidence": []',
        " }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _dumps(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, allow_nan=False, indent=indent)


def from_document(document: Any) -> tuple[Report, Record]:
    """The inverse of :func:`to_document`. Evidence of kinds that this version does not know is left out.

    Raises:
        ValueError: If it is no report of a schema that this version reads.
    """
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if schema != SCHEMA:
        raise ValueError(f"schema={schema!r} is not {SCHEMA!r}: no report, or one that another version wrote")
    told = document["report"]
    report = Report(
        findings=tuple(finding(item) for item in told["findings"]),
        skips=tuple(from_plain(Skip, item) for item in told["skips"]),
        context=None if told["context"] is None else from_plain(RunContext, told["context"]),
        status=told["status"],
    )
    return report, Record.from_plain(document["record"])


def finding(item: Mapping[str, Any]) -> Finding:
    """A finding as it was written."""
    told: Finding = from_plain(Finding, {**item, "severity": Severity(item["severity"])})
    return told


def read(path: str | os.PathLike[str]) -> tuple[Report, Record]:
    """A report and its record from a file that :class:`JsonSink` wrote.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no report of a schema that this version reads.
    """
    return from_document(_load(path))


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``select``, ``ignore`` and ``thresholds`` under which a written report was judged."""
    document = _load(path)
    from_document(document)
    return dict(document["settings"])


def _load(path: str | os.PathLike[str]) -> Any:
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} holds no JSON: {error}") from error


def _finding(finding: Finding) -> dict[str, Any]:
    values = {item.name: getattr(finding, item.name) for item in dataclasses.fields(finding)}
    return {name: (_tolerant if name == "measured" else to_plain)(value) for name, value in values.items()}


def _tolerant(value: Any) -> Any:
    """A value of a claim; what is not plain is told as text rather than losing the whole report."""
    if isinstance(value, Mapping):
        return {str(key): _tolerant(item) for key, item in value.items()}
    try:
        return to_plain(value)
    except TypeError:
        return str(value)


class JsonSink:
    """Writes ``report.json`` when the run ends.

    Args:
        path: The file.
        settings: ``select``, ``ignore`` and ``thresholds`` in force.
    """

    def __init__(self, path: str, settings: Mapping[str, Any] | None = None) -> None:
        self._path = path
        self._settings = dict(settings or {})

    def on_evidence(self, evidence: Evidence) -> None:
        """The record keeps it."""

    def on_finding(self, finding: Finding) -> None:
        """The report will hold it."""

    def on_report(self, report: Report, record: Record) -> None:
        """Writes the file."""
        if is_worth_a_file(report):
            write_text(self._path, to_json(report, record, self._settings))
