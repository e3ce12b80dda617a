"""What the fields of the batches hold: values by feature, labels by class, rows by batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import BatchSampler

from lightning_debug.callbacks._data_part import DataContext, DataPart, Source, Stage
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.data import DeliveredSamples, FieldValues, LabelCounts
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.bytecode import asks_for_none, plain_function
from lightning_debug.probes.data_counts import ClassCounts, RowCounts
from lightning_debug.probes.data_values import ValueMoments
from lightning_debug.probes.relation_raw import keeps_samples, raw_columns
from lightning_debug.probes.source import is_library

MOST_FIELDS = 32
TOLD = 3
"""After how many epochs of a stage the values are told; then at the end."""

Key = tuple[Stage, int, str]


class ValuesInData(DataPart):
    """Moments of inputs and tokens on the batches looked at closely; labels and rows of the first epoch."""

    produces = (FieldValues, LabelCounts, DeliveredSamples)

    def __init__(self) -> None:
        self._context: DataContext | None = None
        self._moments: dict[Key, ValueMoments] = {}
        self._labels: dict[Key, ClassCounts] = {}
        self._rows: dict[tuple[Stage, int], RowCounts] = {}
        self._first: dict[Stage, int] = {}
        self._told: dict[Stage, int] = {"train": 0, "validate": 0}

    def begin(self, context: DataContext) -> None:
        """Keeps hold of the context."""
        self._context = context

    def wants(self, stage: Stage) -> bool:
        """Labels and rows are counted in the first epoch."""
        return self._told[stage] == 0

    def keys_suffice(self, stage: Stage, loader_index: int) -> bool:
        """Counting takes labels and shapes; a batch that is short is looked at itself."""
        rows = self._rows.get((stage, loader_index))
        return rows is not None and not rows.short

    def saw(
        self,
        stage: Stage,
        loader_index: int,
        epoch: int,
        batch_index: int,
        fields: Sequence[Field],
        size: int,
        *,
        audited: bool,
        batch: Any,
    ) -> Iterable[Evidence] | None:
        """Adds a batch."""
        key = stage, loader_index
        if self._first.setdefault(stage, epoch) == epoch and self._told[stage] == 0:
            if key not in self._rows:
                self._rows[key] = _row_counts(self._source(stage, loader_index))
            self._rows[key].add(batch, fields, size)
            for field in fields:
                if field.role == "label" and (field.kind in ("classes", "one-hot") or field.named):
                    where = (*key, field.path)
                    if where not in self._labels:
                        self._labels[where] = ClassCounts(one_hot=field.kind == "one-hot")
                    self._labels[where].add(field.tensor)
        if audited:
            for field in fields:
                if field.role in ("input", "tokens") and field.dim is not None:
                    self._add((*key, field.path), field)
        return None

    def _add(self, key: Key, field: Field) -> None:
        if key not in self._moments:
            if len(self._moments) >= MOST_FIELDS:
                return
            self._moments[key] = ValueMoments(field, key[0], key[1])
        if self._moments[key].fits(field):
            self._moments[key].add(field)

    def end_of_epoch(self, stage: Stage) -> Iterable[Evidence] | None:
        """Tells what is known after the first epochs."""
        self._told[stage] += 1
        if self._told[stage] > TOLD:
            return None
        found: list[Evidence] = self._values(stage)
        if self._told[stage] == 1:
            found += self._counts(stage)
        return found

    def finish(self) -> Iterable[Evidence]:
        """Tells what is known in the end."""
        stages: tuple[Stage, Stage] = "train", "validate"
        found = []
        for stage in stages:
            if not 0 < self._told[stage] <= TOLD:
                found += self._values(stage)
        return found

    def _values(self, stage: Stage) -> list[Evidence]:
        now = self._context.moment() if self._context is not None else None
        known = {} if now is None else {"at": now}
        return [moments.evidence(**known) for key, moments in self._moments.items() if key[0] == stage]

    def _counts(self, stage: Stage) -> list[Evidence]:
        found: list[Evidence] = []
        for key, rows in self._rows.items():
            if key[0] == stage:
                source = self._source(*key)
                length = None if source is None else source.length
                whole = length is not None and rows.delivered >= 0.9 * length
                keeps = source is None or source.streams or keeps_samples(source.dataset)
                seen = rows.evidence(stage, key[1], length, _name(source), keeps=keeps)
                joined = bool(seen.short) and _are_joined(seen, source)
                found.append(replace(seen, drops_none=_drops_none(source), joined=joined))
                found += [
                    counts.evidence(stage, key[1], where[2], complete=whole)
                    for where, counts in self._labels.items()
                    if where[:2] == key
                ]
        return found

    def _source(self, stage: Stage, index: int) -> Source | None:
        return None if self._context is None else self._context.source(stage, index)


def _row_counts(source: Source | None) -> RowCounts:
    """Counts rows against the batch sampler, where that is torch's own and so known to give full batches."""
    if source is None or source.streams or type(source.batch_sampler) is not BatchSampler:
        return RowCounts(None, None)
    try:
        return RowCounts(source.batch_size, len(source.sampler), drop_last=source.drop_last)
    except Exception:  # a sampler without a length
        return RowCounts(None, None)


def _name(source: Source | None) -> str:
    collate = None if source is None else source.collate_fn
    name = getattr(collate, "__qualname__", type(collate).__name__)
    return "" if collate is None or collate is torch.utils.data.default_collate else str(name)


def _are_joined(seen: DeliveredSamples, source: Source | None) -> bool:
    """Whether the rows of a short batch hold as many values as all samples that it was asked for: mosaics, say."""
    columns = None if source is None or source.streams else raw_columns(source.dataset)
    largest = max((tensor.numel() // len(tensor) for _, tensor in columns or [] if len(tensor)), default=0)
    return seen.values >= largest * max(2 * seen.rows, 0.9 * seen.rows_asked) > 0


def _drops_none(source: Source | None) -> bool:
    """Whether a collate function of the user's own asks for samples that are ``None``."""
    collate = None if source is None else plain_function(source.collate_fn)
    return collate is not None and not is_library(collate.__code__.co_filename) and asks_for_none(collate)
