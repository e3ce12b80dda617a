"""Whether features of two sets spread otherwise because they were scaled otherwise, for LD515."""

from __future__ import annotations

import math
import statistics

from lightning_debug.evidence.data import FieldValues, LabelCounts
from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.record import Record
from lightning_debug.rules._data_layers import pooled

Feature = tuple[float, float, float, float]
"""Mean and deviation in training, then in validation."""


def is_on_another_scale(feature: Feature, single: float, scale: float, huge: float) -> bool:
    """Whether a feature lies elsewhere and spreads otherwise: drift, a clock or a heavy tail does one of the two.

    A value that is far out moves the mean by a small part of the deviation it makes.
    """
    first, deviation, second, other = feature
    apart, factor = abs(second - first) / max(deviation, other), max(other / deviation, deviation / other)
    return (apart >= single and factor >= scale) or (apart >= 1.0 and factor >= huge)


def spread_alike(features: list[Feature], ratio: float, alike: float) -> bool:
    """Whether the means of many features lie wider apart as their deviations are larger: noise adds to these alone."""
    first, second = [item[0] for item in features], [item[2] for item in features]
    spreads = statistics.pstdev(first), statistics.pstdev(second)
    if len(features) < 16 or min(spreads) <= 0:
        return False
    wider, larger = math.log(spreads[1] / spreads[0]), math.log(ratio)
    same_way = wider * larger > 0 and max(math.log(1.5), abs(larger) / 2) <= abs(wider) <= 2 * abs(larger)
    return same_way and statistics.correlation(first, second) >= alike


def is_scaled_by_column(features: list[Feature], uneven: float) -> bool:
    """Whether the features of one set spread alike and those of the other do not: drift makes nothing even."""
    first, second = ([math.log(item[place]) for item in features] for place in (1, 3))
    even, other = sorted((statistics.pstdev(first), statistics.pstdev(second)))
    return len(features) >= 6 and even <= uneven / 3 and other >= uneven


def made_by_few(train: FieldValues | FirstLayerInput, val: FieldValues | FirstLayerInput, apart: float) -> bool:
    """Whether a few wild samples make one set spread more: it reaches many times as far, about the same mean.

    Args:
        train: One set.
        val: The other.
        apart: Their typical features' means, in deviations of the narrower set; what was not scaled moves them.
    """
    narrow, wide = sorted((pooled(item)[1], _reach(item)) for item in (train, val))
    return apart < 1.0 and wide[1] >= max(10.0, 2.0 * narrow[1])


def _reach(item: FieldValues | FirstLayerInput) -> float:
    """How many deviations the value farthest out is from the mean."""
    mean, deviation = pooled(item)
    return max(item.highest - mean, mean - item.lowest) / deviation if deviation > 0 else 0.0


def counts_in_one(train: FieldValues | FirstLayerInput, val: FieldValues | FirstLayerInput) -> str:
    """That one set holds whole numbers and the other does not, as after a logarithm; empty where it is not so."""
    kinds = getattr(train, "holds", ""), getattr(val, "holds", "")
    if set(kinds) != {"counts", "values"}:
        return ""
    whole, other = ("training", "validation") if kinds[0] == "counts" else ("validation", "training")
    return f"; {whole} holds whole numbers and {other} does not"


def is_signed(train: FieldValues | FirstLayerInput, val: FieldValues | FirstLayerInput) -> bool:
    """Whether one set lies on both sides of 0 and the other on one side."""
    sides = (train, val), (val, train)
    negatives = [one.negatives if isinstance(one, FieldValues) else 1.0 for one, _ in sides]
    return any(b.lowest >= 0 and n >= 0.2 and a.lowest < -0.3 for (a, b), n in zip(sides, negatives, strict=True))


def is_rescaled(train: FieldValues | FirstLayerInput, val: FieldValues | FirstLayerInput, same: float) -> bool:
    """Whether both sets reach as many of their deviations below and above their means: one is the other, rescaled."""
    (first, deviation), (second, other) = pooled(train), pooled(val)
    low = (train.lowest - first) / deviation - (val.lowest - second) / other
    high = (train.highest - first) / deviation - (val.highest - second) / other
    return max(abs(low), abs(high)) <= same


def holds_other_classes(record: Record) -> bool:
    """Whether half of the labels of one set would have to change to give the other's."""
    last = {item.stage: item for item in record.of(LabelCounts) if item.loader == 0 and item.counts}
    train, val = last.get("train"), last.get("validate")
    if train is None or val is None:
        return False
    first, second = (dict(zip(item.classes, item.counts, strict=True)) for item in (train, val))
    shares = [
        abs(first.get(one, 0) / sum(train.counts) - second.get(one, 0) / sum(val.counts)) for one in {*first, *second}
    ]
    return sum(shares) / 2 > 0.5


def is_categorical(train: FieldValues | FirstLayerInput, val: FieldValues | FirstLayerInput) -> bool:
    """Whether the values are flags or ids, of which shares and not amounts may change."""
    flags = [isinstance(item, FieldValues) and item.holds in ("one-hot", "binary", "ids") for item in (train, val)]
    return any(flags) and max(abs(train.highest), abs(val.highest)) <= 1
