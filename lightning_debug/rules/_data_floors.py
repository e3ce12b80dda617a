"""The least value that many values of a field take: black, silence, no rain. It moves with the preparation alone."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data import FieldValues
from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.finding import Claim
from lightning_debug.record import Record
from lightning_debug.rules._data_layers import first_layers, number

FEWEST = 0.05
"""So many of the values of both sets must be the least one."""
ALIKE = 1.5
"""Shares of one kind of data are no further apart."""
MOVED = 0.2
"""Deviations between the least values of two sets that are prepared alike, at most."""
SAME = 0.1
"""Relative difference of how far the mean lies above the least value, in deviations, which no preparation changes."""
DELIVERED = 1e-3


def moved_floors(record: Record, samples: int) -> Iterator[Claim]:
    """Fields of which one set is the other moved, or on another scale, told by the least value.

    Data that drift keep their least value. Where it moves, while as many values take it and the rest lies as far above
    it, an offset was taken from one set and not from the other.

    >>> train = FieldValues(stage="train", field="x", role="input", samples=90, floor=0.4, lowest=-0.6, deviation=1.0)
    >>> val = FieldValues(stage="validate", field="x", role="input", samples=90, floor=0.4, mean=0.6, deviation=1.0)
    >>> [claim.message.partition(",")[0] for claim in moved_floors(Record([train, val]), 16)]
    ['40% of the values of x are the least one']
    """
    last = {(item.stage, item.field): item for item in record.of(FieldValues) if item.loader == 0}
    layers = {(stage, item.field): item for stage in ("train", "validate") for item in first_layers(record, stage)}
    for (stage, field), train in last.items():
        val = last.get(("validate", field))
        if stage != "train" or val is None or train.role != "input" or not train.deviation or not val.deviation:
            continue
        if min(train.samples, val.samples) < samples or not min(train.floor, val.floor) >= FEWEST:
            continue
        if not 1 / ALIKE < val.floor / train.floor < ALIKE or not _arrives(layers, train, val):
            continue
        moved = abs(val.lowest - train.lowest) / train.deviation
        above, other = ((item.mean - item.lowest) / item.deviation for item in (train, val))
        if moved < MOVED or abs(above - other) > SAME * above:
            continue
        yield Claim(
            message=f"{train.floor:.0%} of the values of {field} are the least one, {number(train.lowest)}, in "
            f"training, and {val.floor:.0%} are {number(val.lowest)} in validation, {number(moved)} deviations away; "
            "the others lie above it alike in both sets.",
            subject=field,
            measured={"train": train.lowest, "validation": val.lowest, "deviations": moved, "share": train.floor},
            fix="Prepare validation inputs as training inputs are: the same division, mean and deviation.",
            at=val.at,
        )


def _arrives(layers: dict[tuple[str, str], FirstLayerInput], train: FieldValues, val: FieldValues) -> bool:
    """Whether both sets reach the first layer as they are delivered, as far as that was seen."""
    for values in (train, val):
        layer = layers.get((values.stage, values.field))
        if layer is None:
            return not layers
        if layer.means and abs(layer.lowest - values.lowest) > DELIVERED * values.deviation:
            return False
    return True
