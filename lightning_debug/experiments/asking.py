"""Asking data sets and functions of the user's outside of steps, without a trace."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_debug.experiments._snapshot import Snapshot
from lightning_debug.experiments._surroundings import (
    random_state,
    set_random_state,
    silence,
    staying,
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
def asked(held: Sequence[Any], offload: str | None = None, *, copies: bool = True) -> Snapshot:
    """What data sets and functions hold and reach that will be asked.

    What cannot be put back is passed over, as extensions and files are, but for what would certainly differ afterwards:
    the snapshot's ``reasons`` name iterators, and functions that keep their results.

    Args:
        held: Data sets, collate functions and the like.
        offload: Device for copies of tensors; by default they stay where they are.
        copies: Whether to copy the bytes of tensors and arrays that they hold.
    """
    state = Snapshot(offload, asked=True)
    for item in held:
        state.add_call(item, _name(item), copies=copies)
    return state


def trace_of(held: Sequence[Any]) -> str:
    """Why asking would leave a trace; empty where it would not."""
    return "; ".join(asked(held, copies=False).reasons[:3])


@contextlib.contextmanager
def put_back(called: Any = None, copied: Any = None, *, careful: bool = True) -> Iterator[None]:
    """Lets a function be called, and copies of an object, and puts back all that they reach: a count, a list.

    The global random generators are put back as well, and nothing is printed.

    Args:
        called: A collate function or the like.
        copied: What only copies of are asked, as a data set: these share variables of their module and class.
        careful: Whether nothing may be asked where something would not be as it was; if not, the rest is put back.

    Raises:
        Traceable: If something would not be as it was. Nothing was asked then.
    """
    random, state = random_state(), asked([called])
    state.join(asked([copied], copies=False))
    if careful and state.reasons:
        raise Traceable(state.reasons)
    try:
        with silence(), staying():
            yield
    finally:
        with uninterrupted():
            state.restore()
            set_random_state(random)


def _name(item: Any) -> str:
    is_function = isinstance(item, (types.FunctionType, types.MethodType))
    return str(item.__qualname__ if is_function else type(item).__qualname__)
