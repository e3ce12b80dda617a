"""How losses and gradient norms went before a bad step."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from lightning_debug.evidence.lr_range import LRRange
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from lightning_debug.record import Record


@dataclass(frozen=True)
class History:
    """Finite losses and gradient norms of the steps before a bad one, oldest first.

    Args:
        steps: The steps of the losses.
        losses: Losses.
        norms: Gradient norms before clipping, of the first optimizer.
    """

    steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()

    @property
    def growth(self) -> float:
        """How many times the last loss is as large as the smallest before it (1 when there is nothing to compare)."""
        sizes = [abs(value) for value in self.losses if value]
        return sizes[-1] / min(sizes) if len(sizes) > 1 else 1.0

    @property
    def norm_growth(self) -> float:
        """The same for the gradient norm."""
        sizes = [value for value in self.norms if value > 0]
        return sizes[-1] / min(sizes) if len(sizes) > 1 else 1.0

    @property
    def usual_norm(self) -> float | None:
        """The median norm of the first half: a threshold for clipping from the run's own, still healthy, steps."""
        early = self.norms[: max(1, len(self.norms) // 2)]
        return statistics.median(early) if early else None

    def diverges(self, growth: float) -> bool:
        """Whether loss or norm has grown ``growth``-fold, up to the bad step."""
        return self.growth >= growth or self.norm_growth >= growth

    def sinks(self, growth: float) -> bool:
        """Whether the loss itself has fallen that far below zero, as where a term of it has no least value."""
        return bool(self.losses) and self.losses[-1] < 0 and self.growth >= max(growth, self.norm_growth)

    def told(self) -> str:
        """The growth in words."""
        if self.growth >= self.norm_growth:
            start = min(range(len(self.losses)), key=lambda i: abs(self.losses[i]) or math.inf)
            how = "fallen below zero" if self.sinks(1.0) else "grown"
            return (
                f"the loss has {how} from {self.losses[start]:.3g} (step {self.steps[start]}) "
                f"to {self.losses[-1]:.3g} (step {self.steps[-1]})"
            )
        return f"the gradient norm has grown from {min(self.norms):.3g} to {self.norms[-1]:.3g}"


def history(record: Record, event: NonFiniteStep) -> History:
    """What the windows before a bad step hold."""
    steps: list[int] = []
    losses: list[float] = []
    norms: list[float] = []
    for window in record.of(StepWindow):
        values = next(iter(window.losses.values()), ())
        for step, loss in zip(window.steps, values, strict=False):
            if step <= event.at.step and loss is not None and math.isfinite(loss):
                steps.append(step)
                losses.append(loss)
        if not window.steps or window.steps[0] <= event.at.step:
            taken = next(iter(window.gradient_norms.values()), ())
            norms += [norm for norm in taken if norm is not None and math.isfinite(norm)]
    return History(tuple(steps), tuple(losses), tuple(norms))


def left_out(record: Record) -> dict[str, int]:
    """How many optimizer steps the guard has left out, where it has; at least, in a run of many windows.

    >>> left_out(Record([StepWindow(skipped=1), StepWindow(), StepWindow(skipped=2)]))
    {'steps_left_out': 3}
    """
    count = sum(window.skipped for window in record.of(StepWindow))
    return {"steps_left_out": count} if count else {}


@dataclass(frozen=True)
class Run:
    """Steps in a row with one loss and one optimizer step each, all finite.

    Args:
        steps: The steps.
        losses: Their losses.
        norms: Their gradient norms before clipping; ``None`` where it was not taken.
    """

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    norms: tuple[float | None, ...]


def series(record: Record) -> list[Run]:
    """The windows that follow each other without a gap, where each batch has one loss and one optimizer step."""
    parts: list[list[tuple[int, float, float | None]]] = []
    for window in record.of(StepWindow):
        losses, norms = list(window.losses.values()), list(window.gradient_norms.values())
        if len(losses) != 1 or len(norms) != 1 or not len(losses[0]) == len(norms[0]) == len(window.steps):
            continue
        rows = [row for row in zip(window.steps, losses[0], norms[0], strict=True) if row[1] is not None]
        finite = [(step, float(loss or 0.0), norm) for step, loss, norm in rows]
        if not finite or any(value is not None and not math.isfinite(value) for row in finite for value in row):
            continue
        follows = parts and parts[-1][-1][0] + 1 == finite[0][0]
        parts[-1].extend(finite) if follows else parts.append(finite)
    return [
        Run(tuple(row[0] for row in part), tuple(row[1] for row in part), tuple(row[2] for row in part))
        for part in parts
    ]


def single_loss(record: Record) -> list[float] | None:
    """The losses of the run, oldest first, where each batch has one; ``None`` where one has several."""
    found: list[float] = []
    for window in record.of(StepWindow):
        if len(window.losses) > 1:
            return None
        for values in window.losses.values():
            found += [value for value in values if value is not None and math.isfinite(value)]
    return found


def rate_fix(record: Record, event: NonFiniteStep, past: History) -> str:
    """Lower the learning rate, to what its range test has found, or clip at the norm of the run's healthy steps."""
    norm = past.usual_norm
    clip = "" if norm is None else f", or clip: NonFiniteGuard(max_norm={norm:.2g}), the norm of the first steps"
    return f"Lower the learning rate{lower_rate(record, event)}{clip}."


def divergence(record: Record, event: NonFiniteStep, past: History, growth: float) -> tuple[str, str, str]:
    """What to call a run that diverges, what to change, and how."""
    if past.sinks(growth):
        return "without end", "loss", _SINKS
    return "the run diverges", f"learning rate of {event.optimizer or 'the optimizer'}", rate_fix(record, event, past)


_SINKS = (
    "Look for a term of the loss that has no least value: a likelihood, a divergence or a squared error with the wrong "
    "sign (a minus that is missing, or one too many). A lower learning rate would only delay this."
)


def lower_rate(record: Record, event: NonFiniteStep) -> str:
    """The rate in use, and the one to take: the range test's answer where one ran and is lower."""
    rate = event.learning_rate
    if rate is None:
        return " tenfold"
    found = [item.suggestion for item in record.of(LRRange) if item.suggestion and item.name == event.optimizer]
    if found and found[-1] < rate:
        return f" ({rate:g}) to {found[-1]:.2g}, the answer of the learning-rate range test"
    return f" ({rate:g}) tenfold"


def replay(event: NonFiniteStep) -> str:
    """How to run the step again by hand, where it was saved."""
    if not event.saved:
        return ""
    return f" Replay it: python {event.saved}." if event.saved.endswith(".py") else f" The step: {event.saved}."


_DRIVEN = frozenset(
    """
    division-by-tiny division-by-zero edge-of-domain exp-overflow log-of-negative log-of-tiny log-of-zero
    logit-at-edge outside-domain power-of-negative sqrt-at-zero sqrt-of-negative
    """.split()
)


def driven(record: Record, event: NonFiniteStep, reason: str) -> str:
    """What to add to the fix where updates have taken a parameter out of the operation's domain; empty elsewhere."""
    origin = event.origin
    held = next((x for x in origin.operands if x.kind == "parameter"), None) if origin is not None else None
    if held is None or not event.at.step or reason not in _DRIVEN:
        return ""
    return f" The updates have taken {held.source} there: lower the learning rate{lower_rate(record, event)}."


def kind(value: float | None) -> str:
    """NaN, +Inf or -Inf.

    >>> kind(float("nan")), kind(-math.inf), kind(None)
    ('NaN', '-Inf', 'not finite')
    """
    if value is None or math.isfinite(value):
        return "not finite"
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def broken_before(event: NonFiniteStep) -> bool:
    """Whether a weight or buffer was bad before the step and made it bad: then that is the fault."""
    return event.origin is not None and event.origin.kind in ("parameter", "buffer")


def unknown(event: NonFiniteStep) -> str:
    """Why the origin is not known, and what there is to look at all the same."""
    told = event.unknown or "it was not looked for"
    held = ", ".join(field.name for field in event.fields)
    return f"{told} (values that are not finite are in {held})" if held else told
