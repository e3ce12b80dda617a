"""What looks that come again and again may cost together: a share of the run so far, so that slow steps stay few.

The first look of each kind is taken until all together were very long; those after it wait until the run is long
enough to bear them. So a run of short steps is looked at as often as is planned, and one whose steps take a second
more rarely.

    with looking(self.session):        # what the block takes is charged to all looks
        ...
    if may_look(self.session, price):  # price: what the last look of this kind has taken
        ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from lightning_debug.experiments.clock import working_time
from lightning_debug.session import Session

SHARE = 0.05
"""Of the run so far, what looks may take."""

FLOOR = 3.0
"""Seconds that are granted even where the share is less."""

FIRST = 8.0
"""Likewise for what is not looked at yet."""


@dataclass
class _Account:
    begun: float
    spent: float = 0.0


_ACCOUNTS: WeakKeyDictionary[Session, _Account] = WeakKeyDictionary()


def may_look(session: Session, price: float) -> bool:
    """Whether a look that takes so many seconds is within what looks may take together."""
    return price <= granted(session)


def may_begin(session: Session) -> bool:
    """Whether a look may be taken for the first time: looks so far have not used up what a first one may add to."""
    return granted(session) + FIRST - FLOOR > 0


def granted(session: Session) -> float:
    """Seconds that looks have left."""
    account = _account(session)
    return max(FLOOR, SHARE * (working_time() - account.begun)) - account.spent


@contextlib.contextmanager
def looking(session: Session) -> Iterator[None]:
    """Charges what the block takes to the looks of a session."""
    begun = working_time()
    try:
        yield
    finally:
        charge(session, working_time() - begun)


def charge(session: Session, seconds: float) -> None:
    """Charges so many seconds to the looks of a session."""
    _account(session).spent += seconds


def _account(session: Session) -> _Account:
    return _ACCOUNTS.setdefault(session, _Account(working_time()))
