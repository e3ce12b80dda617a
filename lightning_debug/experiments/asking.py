"""Asking data sets and functions of the user's outside of steps, without a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_debug.experiments._snapshot import Snapshot
from lightning_debug.experiments._surroundings import (
    random_state,
    set_random_state,
    silence,
    uncollected,
    uninterrupted,
)


class Traceable(RuntimeError):
    """Asking would leave a trace: something gives one thing after the other, or keeps what it gave.

    Attributes:
        reason: Half a sentence that can follow "not judged, because".
    """

    def __init__(self, traces: Sequence[str]) -> None:
        self.reason = f"asking would leave a trace: {'; '.join(traces[:3])}"
        super().__init__(self.reason)


@uncollected()
def asked(held: Sequence[Any], offload: str | None = None) -> Snapshot:
    """What data sets and functions hold and reach that will be asked.

    What cannot be put back is passed over, as extensions and files are, but for what would certainly differ afterwards:
    the snapshot's ``reasons`` name iterators, and functions that keep their results.

    Args:
        held: Data sets, collate functions and the like.
        offload: Device for copies of tensors; by default they stay where they are.
    """
    state = Snapshot(offload, asked=True)
    for index, item in enumerate(held):
        state.add_call(item, _name(item, index))
    return state


def trace_of(held: Sequence[Any]) -> str:
    """Why asking would leave a trace; empty where it would not."""
    state = Snapshot(asked=True)
    with uncollected():
        for index, item in enumerate(held):
            state.add_call(item, _name(item, index), copies=False)
    return "; ".join(state.reasons[:3])


@contextlib.contextmanager
def put_back(called: Any = None, copied: Any = None) -> Iterator[None]:
    """Lets a function be called, and copies of an object, and puts back all that they reach: a count, a list.

    The global random generators are put back as well, and nothing is printed.

    Args:
        called: A collate function or the like.
        copied: What only copies of are asked, as a data set: these share variables of their module and class.

    Raises:
        Traceable: If something would not be as it was. Nothing was asked then.
    """
    random, state = random_state(), Snapshot(asked=True)
    with uncollected():
        state.add_call(called, "collate_fn")
        state.add_call(copied, _name(copied, 0), copies=False)
    if state.reasons:
        raise Traceable(state.reasons)
    try:
        with silence():
            yield
    finally:
        with uninterrupted():
            state.restore()
            set_random_state(random)


def _name(item: Any, index: int) -> str:
    return getattr(item, "__qualname__", type(item).__qualname__) or f"also[{index}]"
