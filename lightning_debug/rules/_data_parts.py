"""Batches of training that hold those of several loaders, of which validation reads one kind."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from lightning_debug.evidence.data import FieldValues, LabelCounts
from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.record import Record

_PART = re.compile(r"batch(\[[^\[\]]+\])(?=[\[.])")


def by_part(record: Record) -> list[Record]:
    """What is known of each part of training's batches that is made as validation's batches are, under their names.

    Labelled beside unlabelled batches, a source beside a target domain: ``batch[0][0]`` is ``batch[0]`` in validation.

    >>> seen = [FieldValues(stage="train", field=f"batch[{part}][0]", role="input", shape=(4,)) for part in (0, 1)]
    >>> seen += [FieldValues(stage="validate", field="batch[0]", role="input", shape=(4,))]
    >>> [[item.field for item in part.of(FieldValues)] for part in by_part(Record(seen))]
    [['batch[0]', 'batch[0]'], ['batch[0]', 'batch[0]']]
    """
    delivered = [item for item in record.of(FieldValues) if item.loader == 0 and item.role in ("input", "")]
    wanted = {(item.field, item.shape) for item in delivered if item.stage == "validate"}
    train = [item for item in delivered if item.stage == "train"]
    heads = sorted({found[0] for item in train if (found := _PART.match(item.field))})
    fitting = [
        head
        for head in heads
        if wanted and wanted <= {(_without(item.field, head), item.shape) for item in train if _in(item.field, head)}
    ]
    return [Record(_renamed(record, head)) for head in fitting]


def _renamed(record: Record, head: str) -> Iterator[FieldValues | FirstLayerInput | LabelCounts]:
    yield from record.of(LabelCounts)
    for values in record.of(FieldValues):
        if values.stage != "train" or _in(values.field, head):
            yield dataclasses.replace(
                values, field=_without(values.field, head if values.stage == "train" else "batch")
            )
    for layer in record.of(FirstLayerInput):
        if layer.stage != "train" or _in(layer.field, head):
            yield dataclasses.replace(layer, field=_without(layer.field, head if layer.stage == "train" else "batch"))


def _in(field: str, head: str) -> bool:
    return field.startswith((f"{head}[", f"{head}."))


def _without(field: str, head: str) -> str:
    return f"batch{field[len(head) :]}"
