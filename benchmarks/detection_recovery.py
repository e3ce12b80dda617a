"""What a repaired program's score says of the fix.

A fault is *harmful* if the broken program raises, gives numbers that are not finite, or a score that is worse than the
twin's by more than ``MARGIN`` of what training gains the twin; the fix *recovers* it if the score is back within that
margin, or ``SHARE`` of the distance is gone. Where a fault does no harm to the weights (a metric that lies, memory that
grows), the fix must leave the score as good.
"""

from __future__ import annotations

from collections.abc import Iterable

import detection
from detection_edits import back, bare, deciding, names_the_edit, worse


def compared(
    name: str, planted: str, texts: dict[str, str], read: str, codes: dict, reports: dict, scores: dict
) -> dict:
    """One row of the result: what the fix names, what became of the finding, and of the score."""
    findings = {part: report["findings"] for part, report in reports.items()}
    finding = next((item for item in findings.get("broken", []) if item["code"] == planted), None)
    after = [item for item in findings.get("fixed", []) if item["severity"] != "info"]
    by_twin = scores.get("twin", {})
    judged: dict[str, dict | None] = {"twin": by_twin.get("own"), "untrained": by_twin.get("untrained")}
    for part in ("broken", "fixed"):
        judged[part] = by_twin.get(part) or scores.get(part, {}).get("own")
    metric = deciding(judged["twin"])
    values = {part: (found or {}).get(metric) for part, found in judged.items()}
    row = {
        "name": name,
        "planted": planted,
        "found": finding is not None,
        "fix": finding["fix"] if finding else "",
        "names_the_edit": names_the_edit(texts["broken"], texts["twin"], finding) if finding else "",
        "applied": "fixed" in texts,
        "stale": bool(finding) and bool(read) and bare(finding["fix"]) != bare(read),
        "exit": codes,
        "metric": metric,
        **values,
        "silenced": "fixed" in texts and not any(item["code"] == planted for item in after),
        "alarms_after": [f"{item['code']} {item['message']}" for item in after if item["explained_by"] is None],
    }
    broken_raises = bool(codes["broken"]) and not codes["twin"]
    row["harmful"] = broken_raises or worse(metric, "broken", values)
    if row["applied"]:
        row["recovers"] = codes["fixed"] <= codes["twin"] and back(metric, values, raised=broken_raises)
    return row


def table(rows: Iterable[dict]) -> str:
    """The rows of the README."""
    rows = list(rows)
    found = [row for row in rows if row["found"]]
    tried = [row for row in found if row["applied"]]
    harmful = [row for row in tried if row["harmful"]]
    mild = [row for row in tried if not row["harmful"]]
    names = sum(bool(row["names_the_edit"]) for row in found)
    answers = {
        "the fix points at a line or a name of what the twin changes": (names, len(found)),
        "a reader could turn it into an edit": (len(tried), len(found)),
        "after the edit the score is back (faults that harm it)": (
            sum(row["recovers"] for row in harmful),
            len(harmful),
        ),
        "after the edit the score is as good as the twin's (faults that do not)": (
            sum(row["recovers"] for row in mild),
            len(mild),
        ),
        "after the edit the finding is gone": (sum(row["silenced"] for row in tried), len(tried)),
        "after the edit there is no warning or error at all": (
            sum(not row["alarms_after"] for row in tried),
            len(tried),
        ),
        "**found, applied, score back, finding gone**": (
            sum(row["recovers"] and row["silenced"] for row in tried),
            len(rows),
        ),
    }
    lines = ["| asked of the printed fix | answer |", "|---|---|"]
    lines += [f"| {question} | {detection.share(*answer)} |" for question, answer in answers.items()]
    return "\n".join(lines)


def told(row: dict) -> str:
    """A line for one fault."""

    def short(value: float | None) -> str:
        return "-" if value is None else f"{value:.4g}"

    words = [word for word in ("found", "applied", "harmful", "recovers", "silenced", "stale") if row.get(word)]
    numbers = f"{row['metric']} {short(row['broken'])} -> {short(row['fixed'])} (twin {short(row['twin'])})"
    line = f"{row['planted']} {row['name']}: {numbers}; {' '.join(words)}; names {row['names_the_edit'] or 'nothing'}"
    return "\n".join([line, *(f"    after: {alarm[:200]}" for alarm in row["alarms_after"])])
