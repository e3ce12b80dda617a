"""First layers over all steps in which they were watched, for the rules on values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from lightning_debug.evidence.data import FieldValues
from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.record import Record

PRODUCTS = frozenset(
    {"linear", "matmul", "mm", "addmm", "bmm", "multi_head_attention_forward", "lstm", "gru", "rnn_tanh", "rnn_relu"}
) | {f"conv{name}{dims}d" for name in ("", "_transpose") for dims in (1, 2, 3)}
"""Calls that multiply what they are given with weights."""


def first_layers(record: Record, stage: str = "train") -> list[FirstLayerInput]:
    """One for each field and module that it meets first, over the steps watched.

    >>> steps = [FirstLayerInput(field="batch[0]", module="net.0", samples=8, means=(mean,), deviations=(0.0,))
    ...          for mean in (1.0, 3.0)]
    >>> [(item.samples, item.means, item.deviations) for item in first_layers(Record(steps))]
    [(16, (2.0,), (1.0,))]
    """
    groups: dict[tuple[str, str], list[FirstLayerInput]] = {}
    for item in record.of(FirstLayerInput):
        if item.stage == stage:
            groups.setdefault((item.field, item.module), []).append(item)
    return [_merged(group) for group in groups.values()]


def _merged(group: Sequence[FirstLayerInput]) -> FirstLayerInput:
    measured = [item for item in group if item.means and len(item.means) == len(group[0].means)]
    if not measured:
        return group[0]
    weights = [max(1, item.samples) for item in measured]
    total = sum(weights)

    def average(values: Sequence[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total

    means, deviations, zeros = [], [], []
    for index in range(len(measured[0].means)):
        mean = average([item.means[index] for item in measured])
        squares = [item.deviations[index] ** 2 + (item.means[index] - mean) ** 2 for item in measured]
        means.append(mean)
        deviations.append(math.sqrt(average(squares)))
        zeros.append(average([item.zeros[index] for item in measured if item.zeros] or [0.0] * len(weights)))
    outputs = [item.output for item in measured if item.output is not None]
    return dataclasses.replace(
        measured[0],
        samples=total,
        steps=len(measured),
        lowest=min(item.lowest for item in measured),
        highest=max(item.highest for item in measured),
        root_mean_square=math.sqrt(average([item.root_mean_square**2 for item in measured])),
        means=tuple(means),
        deviations=tuple(deviations),
        zeros=tuple(zeros),
        whole=all(item.whole for item in measured),
        output=min(outputs) if outputs else None,
        normalised_after=all(item.normalised_after for item in measured),
        at=measured[-1].at,
    )


def root_mean_square(values: Sequence[float]) -> float:
    """Of plain numbers; 0 for none.

    >>> root_mean_square([3.0, 4.0, 5.0, 0.0, 0.0])
    3.1622776601683795
    """
    return math.sqrt(sum(value * value for value in values) / len(values)) if values else 0.0


def by_chance(expected: float) -> str:
    """How many chance makes, without powers of ten that say no more than none.

    >>> by_chance(5.1e-207), by_chance(0.42)
    ('none', '0.42')
    """
    return f"{expected:.2g}" if expected >= 1e-3 else "none"


def number(value: float) -> str:
    """Three digits, without an exponent up to a million.

    >>> number(1234.6), number(0.01234), number(254.7)
    ('1235', '0.0123', '255')
    """
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def is_text(record: Record) -> bool:
    """Whether tokens are all that training is given.

    >>> is_text(Record([FieldValues(field="batch[0]", stage="train", role="tokens")])), is_text(Record())
    (True, False)
    """
    roles = {item.role for item in record.of(FieldValues) if item.stage == "train"}
    return roles & {"input", "tokens"} == {"tokens"}


def in_use(record: Record, field: str) -> bool:
    """Whether a field was seen to meet weights; also where no steps could be watched.

    >>> in_use(Record([FirstLayerInput(field="batch[0]")]), "batch[1]"), in_use(Record(), "batch[1]")
    (False, True)
    """
    layers = record.of(FirstLayerInput)
    return not layers or any(item.field == field for item in layers)


def pooled(item: FieldValues | FirstLayerInput) -> tuple[float, float]:
    """Mean and deviation over all features."""
    mean = sum(item.means) / len(item.means)
    inner = sum(deviation * deviation for deviation in item.deviations) / len(item.means)
    return mean, math.sqrt(inner)


def delivered_alike(record: Record, layer: FieldValues | FirstLayerInput, same: float) -> bool:
    """Whether both loaders deliver one scale of what a layer gets, so that no drift of the data is in what differs."""
    last = {item.stage: item for item in record.of(FieldValues) if item.loader == 0 and item.field == layer.field}
    train, val = last.get("train"), last.get("validate")
    if not isinstance(layer, FirstLayerInput) or train is None or val is None or not train.means or not val.means:
        return False
    (first, deviation), (second, other) = pooled(train), pooled(val)
    return deviation > 0 and abs(second - first) < same * deviation and abs(other - deviation) < same * deviation


def standardised_alone(
    record: Record, train: FieldValues | FirstLayerInput, val: FieldValues | FirstLayerInput, same: float
) -> bool:
    """Whether a layer gets one set as its loader delivers it and the other standardised, of loaders that are alike.

    A part of the values may be blotted out (0) on the way, as augmentation of spectrograms does.
    """
    if not delivered_alike(record, train, same):
        return False
    last = {item.stage: item for item in record.of(FieldValues) if item.loader == 0 and item.field == train.field}
    mean, deviation = pooled(last["train"])
    (first, one), (second, other) = pooled(train), pooled(val)
    for at, spread, raw, beside in ((first, one, second, other), (second, other, first, one)):
        untouched = abs(raw - mean) < 2 * same * deviation and abs(beside - deviation) < 2 * same * deviation
        if untouched and abs(at) < 2 * same and 0.7 < spread < 1.2:
            return True
    return False


def another_loader_agrees(record: Record, field: str) -> bool | None:
    """Whether a validation loader behind the first gives a field as training does where the first one does not.

    So it is where earlier tasks, or other domains, are validated beside what is trained. ``None`` where loaders differ
    and what training is given is not known yet.

    >>> one = FieldValues(field="batch[0]", stage="train", means=(0.0, 9.0), deviations=(1.0, 2.0))
    >>> first = dataclasses.replace(one, stage="validate", means=(0.0, 90.0))
    >>> other = dataclasses.replace(one, stage="validate", loader=1)
    >>> records = Record([one, first, other]), Record([one, first]), Record([first, other])
    >>> [another_loader_agrees(record, "batch[0]") for record in records]
    [True, False, None]
    """
    last = {(item.stage, item.loader): item for item in record.of(FieldValues) if item.field == field and item.means}
    train, first = last.get(("train", 0)), last.get(("validate", 0))
    others = [item for (stage, loader), item in last.items() if stage == "validate" and loader]
    if first is None or not others:
        return False
    if train is None:
        return None if any(not all(_near(first, item)) for item in others) else False
    apart = [not near for near in _near(train, first)]
    for item in others:
        near = _near(train, item)
        if any(apart) and sum(near) >= 0.8 * len(near):
            there = [one for one, odd in zip(near, apart, strict=False) if odd]
            if sum(there) >= 0.8 * len(there):
                return True
    return False


def _near(one: FieldValues, other: FieldValues) -> list[bool]:
    """Of each feature: whether its mean and its deviation are about the same."""
    if len(one.means) != len(other.means):
        return [False]
    both = zip(one.means, one.deviations, other.means, other.deviations, strict=True)
    return [
        abs(second - first) <= max(deviation, spread) and max(deviation, spread) <= 2 * min(deviation, spread)
        for first, deviation, second, spread in both
    ]
