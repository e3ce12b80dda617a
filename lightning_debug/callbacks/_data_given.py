"""GivenColumns: whether a column of the inputs holds the label, and whether the net looks at it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_debug.callbacks._data_part import DataContext
from lightning_debug.evidence import Evidence, Unavailable
from lightning_debug.evidence.data_values import LabelColumns
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.experiments.relation_runs import looks_at_column
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.relation_given import given_by
from lightning_debug.probes.relation_stream import Samples, inputs_of
from lightning_debug.probes.relation_windows import is_last, last_step


class GivenColumns:
    """Knows which columns of the samples' rows belong to which field, and asks the net about one that holds the label.

    Attributes:
        known: Whether a batch was seen.
    """

    def __init__(self) -> None:
        self.known = False
        self._fields: list[tuple[str, tuple[int, ...], bool]] = []
        self._tokens: set[str] = set()

    def note(self, fields: Sequence[Field], size: int) -> None:
        """Notes the fields of the first batch: name, shape of a sample, and whether it may be a row or a window."""
        self.known = True
        for item in inputs_of(fields, size):
            asked = item.role == "input" and item.dim == 0 and not item.tensor.is_complex()
            self._fields.append((item.path, tuple(item.samples.shape[1:]), asked))
            self._tokens.update([item.path] if item.role == "tokens" and item.dim == 0 else [])

    def evidence(self, samples: Samples, batches: Sequence[Any], context: DataContext) -> Evidence | None:
        """What is found in the first samples.

        Args:
            samples: The first epoch.
            batches: Some of its batches, on the CPU, before the transfer; the first is given to the net.
            context: The run.
        """
        widths = [math.prod(shape) for _, shape, _ in self._fields]
        if sum(widths) != samples.rows.shape[1] or not samples.kind:
            return None
        ends = np.cumsum(widths)
        told = LabelColumns(at=context.moment(), samples=len(samples.rows), field=samples.field, kind=samples.kind)
        for (path, shape, asked), end, width in zip(self._fields, ends, widths, strict=True):
            last = last_step(samples.rows[:, end - width : end], samples.kept_labels, shape) if asked else None
            if last is not None:
                told = dataclasses.replace(told, inputs=path, columns=width, column=last.place, holding=1)
                told = dataclasses.replace(told, step=last.step, channel=last.channel)
                told = dataclasses.replace(told, followed=last.followed, otherwise=last.otherwise)
                return self._asked(told, shape, batches, context)
            if path in self._tokens and len(shape) == 1 and is_last(samples.rows[:, end - width : end], samples):
                told = dataclasses.replace(
                    told, inputs=path, columns=width, column=width - 1, holding=1, step=width - 1
                )
                return self._asked(told, shape, batches, context)
        tables = np.repeat([asked and len(shape) == 1 for _, shape, asked in self._fields], widths)
        found = given_by(samples, np.flatnonzero(tables))
        if found is None:
            return None
        column, holding = found
        if column < 0:
            return told
        place = int(np.searchsorted(ends, column, side="right"))
        path, shape, _ = self._fields[place]
        column -= sum(widths[:place])
        told = dataclasses.replace(told, inputs=path, columns=widths[place], column=column, holding=holding)
        return self._asked(told, shape, batches, context)

    def _asked(
        self, told: LabelColumns, shape: tuple[int, ...], batches: Sequence[Any], context: DataContext
    ) -> Evidence:
        """The same with what the net says, which is asked whether it looks at the column."""
        place = tuple(int(index) for index in np.unravel_index(told.column, shape))
        try:
            if context.scanning or not batches:
                raise NotJudged(
                    "there is no net that could be asked whether it looks at the column that holds the label"
                )
            used = looks_at_column(context.trainer, context.pl_module, batches[0], told.inputs, place)
        except NotJudged as error:
            return Unavailable(evidence="LabelColumns", reason=error.reason, at=told.at)
        return dataclasses.replace(told, used=used)
