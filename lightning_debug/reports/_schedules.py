"""Charts of learning rates to come: what will happen, beside what was meant where a rule says so."""

from __future__ import annotations

from collections.abc import Iterable

from lightning_debug.evidence.schedules import ScheduleForecast
from lightning_debug.finding import Finding
from lightning_debug.reports._curves import Chart, Curve

AXIS = "optimizer step"
Points = tuple[tuple[int, float], ...]
MOST = 4
"""Schedules drawn at most."""

_STEPPED = {"step": "stepped after each step", "epoch": "stepped once an epoch"}


def schedule_charts(forecasts: Iterable[ScheduleForecast], findings: Iterable[Finding] = ()) -> tuple[Chart, ...]:
    """A chart for each schedule that was foreseen.

    Args:
        forecasts: What was foreseen.
        findings: What was found: a finding on a schedule may say which interval was meant.

    >>> seen = ScheduleForecast(scheduler="StepLR", interval="epoch", epochs=2, steps_per_epoch=5, optimizer_steps=10,
    ...                         rates=((0, 0.1), (5, 0.01)))
    >>> [chart] = schedule_charts([seen])
    >>> chart.title, chart.curves[0].points
    ('learning rate of StepLR', ((0, 0.1), (4, 0.1), (5, 0.01), (9, 0.01)))
    """
    meant = {item.subject: item.measured.get("intended") for item in findings}
    latest = {(item.scheduler, item.optimizer): item for item in forecasts if item.rates and not item.at.rank}
    return tuple(_chart(item, meant.get(item.scheduler)) for item in list(latest.values())[:MOST])


def _chart(seen: ScheduleForecast, meant: object) -> Chart:
    drawn = [Curve(f"will happen: {_STEPPED[seen.interval]}", _course(seen, seen.interval, seen.rates))]
    if meant in _STEPPED and meant != seen.interval and seen.other_rates:
        other = "step" if seen.interval == "epoch" else "epoch"
        drawn.append(Curve(f"meant: {_STEPPED[other]}", _course(seen, other, seen.other_rates), dashed=True))
    return Chart(f"learning rate of {seen.scheduler}", tuple(drawn), axis=AXIS, linear=True)


def _course(seen: ScheduleForecast, interval: str, rates: Points) -> Points:
    """The points of a curve; between two ends of epochs the rate stays as it is."""
    if interval == "step":
        return rates
    ends = [step for step, _ in rates[1:]] + [seen.optimizer_steps]
    points: list[tuple[int, float]] = []
    for (step, rate), end in zip(rates, ends, strict=True):
        points.append((step, rate))
        if end - 1 > step:
            points.append((end - 1, rate))
    return tuple(points)
