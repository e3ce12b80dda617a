"""Names the sample that ended a run, in training, in an audit, and in a scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning_debug.callbacks._data_leaks import name_of
from lightning_debug.callbacks._data_part import DataContext, Source, Stage
from lightning_debug.evidence.data import UnreadableSample
from lightning_debug.experiments.asking import Traceable, put_back
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
    mine = [item for item in sources if item.stage == now.stage]
    if known is not None:
        mine = [item for item in (*mine, *sources) if item.dataset is known[0]][:1]
    found = [unreadable_in(error, source, now, delivered) for source in mine]
    return next((item for item in found if item.index is not None), next(iter(found), None))


def unreadable_in(error: BaseException, source: Source, at: Any, delivered: Mapping[Stage, int]) -> UnreadableSample:
    """The same where the loader is known.

    Args:
        error: What was raised.
        source: The loader that raised.
        at: When.
        delivered: Samples delivered before, by stage.
    """
    known = asked_for(error)
    if known is not None or source.streams:
        return described(error, source, None if known is None else known[1], at, delivered)
    length, begin = source.length or 0, delivered.get(source.stage, 0)  # a worker raised
    begin = begin if begin < length else 0  # where a loader in the dataset's order got to
    index, raised = ask_again(source, [*range(begin, length), *range(begin)])
    return described(raised or error, source, index, at, delivered)


def ask_again(source: Source, indices: Iterable[int], *, goes_on: bool = False) -> tuple[int | None, Exception | None]:
    """The first of some samples that raises, and what.

    Args:
        source: The loader.
        indices: Of the samples.
        goes_on: Whether the run goes on, so that nothing is asked where that would leave a trace.
    """
    try:
        with put_back(source.dataset, careful=goes_on):
            return first_unreadable(source.dataset, indices) or (None, None)
    except Traceable:
        return None, None


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
