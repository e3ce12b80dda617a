"""Names the sample that ended a run, in training, in an audit, and in a scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning_debug.callbacks._data_leaks import name_of
from lightning_debug.callbacks._data_part import DataContext, Source, Stage
from lightning_debug.evidence.data import UnreadableSample
from lightning_debug.experiments._surroundings import random_state, set_random_state
from lightning_debug.probes.unreadable import asked_for, first_unreadable, is_of_loading, told


def unreadable_sample(
    error: BaseException, context: DataContext, delivered: Mapping[Stage, int]
) -> UnreadableSample | None:
    """What a run that was ended by its dataset is told of it; ``None`` if something else ended it.

    Args:
        error: What was raised.
        context: The loaders.
        delivered: Samples delivered before, by stage.
    """
    if not is_of_loading(error):
        return None
    known = asked_for(error)
    now = context.moment()
    stages: tuple[Stage, Stage] = "train", "validate"
    sources = [item for stage in stages for item in context.sources(stage)]
    if known is not None:
        found = [item for item in sources if item.dataset is known[0]]
        here = [item for item in found if item.stage == now.stage]
        source = next(iter(here or found), None)
        return described(error, source, known[1], now, delivered) if source is not None else None
    mine = [item for item in sources if item.stage == now.stage and not item.streams]  # a worker raised
    for source in mine:
        length, begin = source.length or 0, delivered.get(source.stage, 0)
        begin = begin if begin < length else 0  # where a loader in the dataset's order got to
        index, raised = ask_again(source, [*range(begin, length), *range(begin)])
        if raised is not None:
            return described(raised, source, index, now, delivered)
    source = next((item for item in sources if item.stage == now.stage), None)
    return described(error, source, None, now, delivered) if source is not None else None


def ask_again(source: Source, indices: Iterable[int]) -> tuple[int | None, Exception | None]:
    """The first of some samples that raises, and what; random generators stay as they are."""
    state = random_state()
    try:
        return first_unreadable(source.dataset, indices) or (None, None)
    finally:
        set_random_state(state)


def described(
    error: BaseException, source: Source, index: int | None, at: Any, delivered: Mapping[Stage, int]
) -> UnreadableSample:
    """The evidence."""
    kind, message, line = told(error)
    return UnreadableSample(
        at=at,
        stage=source.stage,
        loader=source.index,
        index=index,
        delivered=delivered.get(source.stage, 0),
        dataset=name_of(source),
        length=source.length,
        error=kind,
        message=message,
        line=line,
    )
