"""DataCollate: whether the collate function keeps each sample's parts together."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch.utils.data import default_collate, default_convert

from lightning_debug.callbacks._data_part import DataContext, DataPart, Source, Stage
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.data_relations import CollatedOrder
from lightning_debug.experiments._surroundings import random_state, set_random_state, silence
from lightning_debug.experiments.clock import working_time
from lightning_debug.probes.collate_order import parted
from lightning_debug.probes.order_loader import asks_for_lists
from lightning_debug.probes.relation_draws import is_small

MOST, SECONDS = 12, 1.0
"""So many samples are asked for, while that takes no more of our own time than this."""


class DataCollate(DataPart):
    """Asks a collate function of the user's once, after the first epoch, for a batch and for each of its samples."""

    produces = (CollatedOrder,)

    def begin(self, context: DataContext) -> None:
        """Starts with nothing."""
        self._context = context
        self._asked = False

    def wants(self, stage: Stage) -> bool:
        """It asks for itself."""
        return False

    def end_of_epoch(self, stage: Stage) -> Iterable[Evidence] | None:
        """Asks each training loader once."""
        if stage != "train" or self._asked:
            return None
        self._asked = True
        return [found for source in self._context.sources("train") if (found := self._order(source)) is not None]

    def _order(self, source: Source) -> CollatedOrder | None:
        collate = source.collate_fn
        if source.streams or not source.length or collate in (None, default_collate, default_convert):
            return None
        if source.hands_on_bags(2) or asks_for_lists(source.loader) or not is_small(source.dataset):
            return None
        state = random_state()
        try:
            with silence():
                own, begun, items = copy.deepcopy(source.dataset), working_time(), []
                count = min(MOST, source.length, source.batch_size or MOST)
                for place in range(count):
                    items.append(own[source.length * place // count])
                    if working_time() - begun > SECONDS:
                        break
                found = parted(items, copy.deepcopy(collate), lambda: set_random_state(state))
        except Exception:  # a dataset, or a collate function, that wants to be asked by its loader only
            return None
        finally:
            set_random_state(state)
        if found is None:
            return CollatedOrder(at=self._context.moment(), samples=len(items), collate=_name(collate))
        return CollatedOrder(
            at=self._context.moment(),
            samples=found.samples,
            field=found.field,
            inputs=found.inputs,
            moved=found.moved,
            collate=_name(collate),
        )


def _name(collate: Any) -> str:
    name = getattr(collate, "__qualname__", "") or type(collate).__name__
    return str(name).rsplit("<locals>.", 1)[-1]
