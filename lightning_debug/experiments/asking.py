"""Asking data sets and functions of the user's outside of steps, without a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lightning_debug.experiments._snapshot import Snapshot
from lightning_debug.experiments._surroundings import (
    random_state,
    set_random_state,
    silence,
    uncollected,
    uninterrupted,
)


@contextlib.contextmanager
def put_back(*held: Any) -> Iterator[None]:
    """Lets what is held be called or indexed, and puts back all that it reaches: a count that it keeps, a list.

    The global random generators are put back as well, and nothing is printed.

    Args:
        held: Data sets, collate functions and the like. What cannot be put back in these is passed over.
    """
    random, state = random_state(), Snapshot()
    with uncollected():
        for index, item in enumerate(held):
            state.add_call(item, f"held[{index}]")
    try:
        with silence():
            yield
    finally:
        with uninterrupted():
            state.restore()
            set_random_state(random)
