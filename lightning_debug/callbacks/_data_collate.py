"""DataCollate: whether the collate function keeps each sample's parts together."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Iterable
from typing import Any

from torch.utils.data import default_collate, default_convert

from lightning_debug.callbacks._data_part import DataContext, DataPart, Source, Stage
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.data_relations import CollatedOrder
from lightning_debug.experiments._surroundings import random_state, set_random_state
from lightning_debug.experiments.asking import put_back
from lightning_debug.experiments.clock import working_time
from lightning_debug.probes.collate_order import parted
from lightning_debug.probes.order_loader import asks_for_lists
from lightning_debug.probes.own_copy import own_copy
from lightning_debug.probes.relation_draws import generator_of, is_generator, is_small

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
        own_collate = _own(collate)
        if own_collate is None:
            return None
        state = random_state()
        try:
            with put_back(own_collate, source.dataset):
                own, begun, items = own_copy(source.dataset), working_time(), []
                count = min(MOST, source.length, source.batch_size or MOST)
                for place in range(count):
                    items.append(own[source.length * place // count])
                    if working_time() - begun > SECONDS:
                        break
                found = parted(items, own_collate, lambda: set_random_state(state))
        except Exception:  # a dataset, or a collate function, that wants to be asked by its loader only
            return None
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


def _own(collate: Any) -> Any:
    """What may be asked without a trace: a function, a method, a copy of an object; ``None`` where it draws by itself.

    A method is asked as it is, as its owner may be the whole program.
    """
    if isinstance(collate, functools.partial):
        given = (*collate.args, *collate.keywords.values())
        plain = _own(collate.func) is collate.func and not any(is_generator(one) or generator_of(one) for one in given)
        return collate if plain else None
    code, known = getattr(collate, "__code__", None), getattr(collate, "__globals__", {})  # of a method, its function's
    if code is not None and any(is_generator(known.get(name)) for name in code.co_names):
        return None
    owner = getattr(collate, "__self__", None)
    if owner is not None:
        return None if generator_of(owner) else collate
    closure = getattr(collate, "__closure__", None)
    if inspect.isfunction(collate):
        held = [cell.cell_contents for cell in closure or () if cell != _EMPTY]
        return None if any(is_generator(item) or generator_of(item) for item in held) else collate
    return copy.deepcopy(collate) if is_small(collate) else None


_EMPTY = types.CellType()


def _name(collate: Any) -> str:
    name = getattr(collate, "__qualname__", "") or type(collate).__name__
    return str(name).rsplit("<locals>.", 1)[-1]
