"""What shows that validation's targets are not those of training: other numbers for the same classes, other units."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from lightning_debug.evidence.data_values import ClassFit, RegressionFit
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.rules._data_layers import number

FEWEST, CALLED, SHARE, MOVED = 100, 10, 0.8, 3
"""Validation samples; answers of one class, or values; share of them with one label; classes of another's number."""
ALIKE, APART, LEARNED = 0.2, 4.0, 0.5


def renumbered(fits: Sequence[ClassFit]) -> dict[int, tuple[int, int, int]]:
    """Classes whose samples bear another number in validation: the label, how often, of how many, by the answer.

    Args:
        fits: What was watched in validations.

    >>> fit = ClassFit(stage="validate", units=3, true=(40, 40, 40), predicted=(40, 40, 40), hits=(1, 0, 0),
    ...                beside=((1, 39), (2, 40), (0, 40)))
    >>> renumbered([fit])
    {0: (1, 39, 40), 1: (2, 40, 40), 2: (0, 40, 40)}
    """
    last = [item for item in fits if item.beside and item.at.epoch == fits[-1].at.epoch]
    last = [item for item in last if item.units == last[-1].units]
    if sum(sum(item.true) for item in last) < FEWEST:
        return {}
    labels: dict[int, Counter[int]] = {}
    called = Counter[int]()
    for item in last:
        for one, (label, count) in enumerate(item.beside):
            labels.setdefault(one, Counter())[label] += count
            called[one] += item.predicted[one]
    known = {one: labels[one].most_common(1)[0] for one, count in called.items() if count >= CALLED}
    sure = {one: (label, count, called[one]) for one, (label, count) in known.items() if count >= SHARE * called[one]}
    moved = {one: item for one, item in sure.items() if item[0] != one}
    return moved if len(moved) >= MOVED and len({label for label, _, _ in sure.values()}) == len(sure) else {}


def other_units(fits: Sequence[RegressionFit]) -> tuple[RegressionFit, RegressionFit] | None:
    """Training and validation of a model that has learned, whose targets differ by units and its predictions do not.

    The targets of validation are those of training times a number, or those of training are standardised and those of
    validation are not. Predictions that a step brings back to the units of its targets differ with them.

    >>> known = {"function": "l1_loss", "elements": 800, "prediction_mean": 0.4, "prediction_deviation": 0.1}
    >>> train = RegressionFit(stage="train", target_mean=0.41, target_deviation=0.12, error=0.001, **known)
    >>> val = RegressionFit(stage="validate", target_mean=9.8, target_deviation=2.9, error=90.0, **known)
    >>> other_units([train, val]) is not None, other_units([train, train])
    (True, None)
    """
    trains, vals = ([item for item in fits if item.stage == stage] for stage in ("train", "validate"))
    if not trains or not vals or any(item.function != trains[0].function or not item.aligned for item in fits):
        return None
    train, val = _pooled(trains), _pooled(vals)
    spread = min(train.target_deviation, val.target_deviation, train.prediction_deviation, val.prediction_deviation)
    if spread <= 0 or min(train.elements, val.elements) < CALLED:
        return None
    learned = train.error <= LEARNED * train.target_deviation**2
    as_before = (
        0.5 <= val.prediction_deviation / train.prediction_deviation <= 2.0
        and abs(val.prediction_mean - train.prediction_mean) <= train.target_deviation
    )
    wrong = val.error >= LEARNED * val.target_deviation**2
    return (train, val) if learned and as_before and wrong and _differ(train, val) else None


def _pooled(fits: Sequence[RegressionFit]) -> RegressionFit:
    """The calls of the last epoch as one."""
    last = [item for item in fits if item.at.epoch == fits[-1].at.epoch]
    count = sum(item.elements for item in last)

    def mean(values: Sequence[float]) -> float:
        return sum(value * item.elements for value, item in zip(values, last, strict=True)) / max(count, 1)

    target, prediction = (mean([item.target_mean for item in last]), mean([item.prediction_mean for item in last]))
    return dataclasses.replace(
        fits[-1],
        elements=count,
        target_mean=target,
        prediction_mean=prediction,
        target_deviation=mean([item.target_deviation**2 + (item.target_mean - target) ** 2 for item in last]) ** 0.5,
        prediction_deviation=mean(
            [item.prediction_deviation**2 + (item.prediction_mean - prediction) ** 2 for item in last]
        )
        ** 0.5,
        error=mean([item.error for item in last]),
    )


def _differ(train: RegressionFit, val: RegressionFit) -> bool:
    factor = val.target_deviation / train.target_deviation
    if not (factor >= APART or factor <= 1 / APART):
        return False
    chance = ALIKE + 3 / min(train.elements, val.elements) ** 0.5
    times: bool = abs(val.target_mean - factor * train.target_mean) <= chance * val.target_deviation
    standard = abs(train.target_mean) <= chance and abs(train.target_deviation - 1) <= chance
    return times or standard


def targets_in_other_units(record: Record) -> Iterator[Claim]:
    """A claim where :func:`other_units` says so."""
    found = other_units(record.of(RegressionFit))
    if found is None:
        return
    train, val = found
    yield Claim(
        message=f"The targets of {train.function} have mean {number(train.target_mean)} and deviation "
        f"{number(train.target_deviation)} in training, {number(val.target_mean)} and {number(val.target_deviation)} "
        f"in validation, while predictions are alike: {number(train.prediction_mean)} and "
        f"{number(train.prediction_deviation)}, {number(val.prediction_mean)} and {number(val.prediction_deviation)}.",
        subject="validation targets",
        measured={
            "train_deviation": train.target_deviation,
            "validation_deviation": val.target_deviation,
            "train_elements": train.elements,
            "validation_elements": val.elements,
            "line": val.line,
        },
        fix="Prepare validation targets as training targets are, or bring predictions back to their units before "
        "they are compared.",
        at=val.at,
    )
