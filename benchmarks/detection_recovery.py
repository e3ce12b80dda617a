"""What a repaired program's score says of the fix.

A fault is *harmful* if the broken program raises, gives numbers that are not finite, or a score that is worse than the
twin's by more than ``MARGIN`` of what training gains the twin; the fix *recovers* it if the score is back within that
margin, or ``SHARE`` of the distance is gone. Where a fault does no harm to the weights (a metric that lies, memory that
grows), the fix must leave the score as good.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import detection
from detection_edits import names_the_edit

MARGIN = 0.1
SHARE = 0.8


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


def bare(fix: str) -> str:
    """A fix without the numbers and places in it, which differ between runs and versions."""
    return re.sub(r"\s+", " ", re.sub(r"[\w/.]*\.py:\d+|[-+]?\d[\d.,e+-]*", "#", fix)).strip()


def deciding(found: dict[str, float] | None) -> str:
    """The score that counts: a loss before anything else."""
    names = sorted(found or {})
    losses = [name for name in names if re.search(r"loss|nll|mse|mae|error|bce|elbo|_ce|cost", name.lower())]
    return (losses or names or [""])[0]


def distance(metric: str, value: float, best: float) -> float:
    """How much worse a score is than another; scores that are no loss are better when larger."""
    rising = bool(re.search(r"acc|auc|f1|reward|dice|iou|score|r2", metric.lower())) and "loss" not in metric.lower()
    return best - value if rising else value - best


def worse(metric: str, part: str, values: dict[str, float | None]) -> bool:
    """Whether a score misses more than ``MARGIN`` of what training gains the twin."""
    value, twin, untrained = values[part], values["twin"], values["untrained"]
    if twin is None or not math.isfinite(twin):
        return False
    if value is None or not math.isfinite(value):
        return True
    gain = abs(twin) if untrained is None or not math.isfinite(untrained) else distance(metric, untrained, twin)
    return distance(metric, value, twin) > MARGIN * max(gain, 1e-3)


def back(metric: str, values: dict[str, float | None], *, raised: bool) -> bool:
    """Whether the fixed program is as good as its twin, or nearly as far from the broken one as it is."""
    broken, fixed, twin = values["broken"], values["fixed"], values["twin"]
    if twin is None:
        return raised  # it runs to its end now, and there is nothing to compare
    if not worse(metric, "fixed", values):
        return True
    if fixed is None or broken is None or not math.isfinite(fixed) or not math.isfinite(broken):
        return False
    gap = distance(metric, broken, twin)
    return distance(metric, broken, fixed) >= SHARE * gap > 0


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
