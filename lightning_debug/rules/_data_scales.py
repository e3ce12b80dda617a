"""Whether features of two sets spread otherwise because they were scaled otherwise, for LD515."""

from __future__ import annotations

import math
import statistics

from lightning_debug.evidence.data import FieldValues
from lightning_debug.evidence.data_values import FirstLayerInput
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
