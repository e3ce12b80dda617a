"""DataLanguage: which token each output of a language model is trained to predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lightning_debug.callbacks._data_part import DataContext, DataPart, Stage
from lightning_debug.evidence import Evidence, Unavailable
from lightning_debug.evidence.data_relations import TargetOffset
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.experiments.relation_runs import is_tokens, target_offset
from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.batch_slicing import Uncuttable, cut_batch

SAMPLES = 4
"""Samples that the experiment runs on."""


class DataLanguage(DataPart):
    """Keeps four samples of the first batch that holds sequences of tokens, and runs the step on them, changed."""

    produces = (TargetOffset,)

    def begin(self, context: DataContext) -> None:
        """Starts with nothing."""
        self._context = context
        self._batch: Any = None
        self._reason = "no batch holds sequences of tokens"
        self._looked = 0
        self._told = False

    def wants(self, stage: Stage) -> bool:
        """The first batches of training."""
        return stage == "train" and self._batch is None and self._looked < 2

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
        """Looks for tokens in the first two batches."""
        if stage == "train" and self._batch is None and self._looked < 2:
            self._looked += 1
            if any(is_tokens(item.tensor) for item in fields if item.dim == 0):
                try:
                    self._batch = cut_batch(batch, 0, min(SAMPLES, size))
                except Uncuttable as error:
                    self._reason = error.reason
        return None

    def end_of_epoch(self, stage: Stage) -> Iterable[Evidence] | None:
        """Runs the experiment once."""
        if stage != "train" or self._told:
            return None
        self._told = True
        found: Evidence | None = None
        if self._batch is not None:
            try:
                found = target_offset(self._context.trainer, self._context.pl_module, self._batch)
                self._reason = "the net is no causal language model, or its targets are no tokens of its input"
            except NotJudged as error:
                self._reason = error.reason
        self._batch = None
        at = self._context.moment()
        return [found or Unavailable(evidence=TargetOffset.__name__, reason=self._reason, at=at)]
