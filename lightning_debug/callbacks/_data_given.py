"""GivenColumns: whether a column of the inputs holds the label, and whether the net looks at it."""

from __future__ import annotations

import dataclasses
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


class GivenColumns:
    """Knows which columns of the samples' rows belong to which field, and asks the net about one that holds the label.

    Attributes:
        known: Whether a batch was seen.
    """

    def __init__(self) -> None:
        self.known = False
        self._fields: list[tuple[str, int, bool]] = []

    def note(self, fields: Sequence[Field], size: int) -> None:
        """Notes the fields of the first batch: name, numbers a sample, and whether these are columns of a table."""
        self.known = True
        for item in inputs_of(fields, size):
            table = item.role == "input" and item.samples.ndim == 2 and not item.tensor.is_complex()
            self._fields.append((item.path, item.samples[:1].numel(), table))

    def evidence(self, samples: Samples, batches: Sequence[Any], context: DataContext) -> Evidence | None:
        """What is found in the first samples.

        Args:
            samples: The first epoch.
            batches: Some of its batches, on the CPU, before the transfer; the first is given to the net.
            context: The run.
        """
        widths = [width for _, width, _ in self._fields]
        if sum(widths) != samples.rows.shape[1]:
            return None
        asked = np.repeat([table for _, _, table in self._fields], widths)
        found = given_by(samples, np.flatnonzero(asked))
        if found is None:
            return None
        column, holding = found
        told = LabelColumns(at=context.moment(), samples=len(samples.rows), field=samples.field, kind=samples.kind)
        if column < 0:
            return told
        place = int(np.searchsorted(np.cumsum(widths), column, side="right"))
        path, width, _ = self._fields[place]
        column -= sum(widths[:place])
        try:
            if context.scanning or not batches:
                raise NotJudged(
                    "there is no net that could be asked whether it looks at the column that holds the label"
                )
            used = looks_at_column(context.trainer, context.pl_module, batches[0], path, column)
        except NotJudged as error:
            return Unavailable(evidence="LabelColumns", reason=error.reason, at=told.at)
        return dataclasses.replace(told, inputs=path, columns=width, column=column, holding=holding, used=used)
