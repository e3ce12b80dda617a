"""What looks may take together: what those that come for the first time may, and what those that come again may.

Those that come again keep to a share of the run so far: a run of short steps is looked at as often as is planned, and
one whose steps take a second more rarely. Those that come for the first time are taken early, where there is no run so
far yet: they keep to a share of the training that is planned, told by what one pass through the model takes; and a few
seconds are always granted. So a run of a dozen slow steps is looked at less closely than a long one.

    if may_begin(self.session, passes=5):  # a first look, which runs the model so often
        with looking(self.session):        # what the block takes is charged to all looks
            ...
            priced(self.session, seconds)  # what one pass has taken
    if may_look(self.session, price):      # price: what the last look of this kind has taken
        ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from lightning_debug.callbacks._experiment_budget import UNKNOWN
from lightning_debug.evidence import RunContext
from lightning_debug.experiments.clock import working_time
from lightning_debug.session import Session

SHARE = 0.05
"""Of the run so far, what looks may take."""

FLOOR = 3.0
"""Seconds that are granted even where the share is less."""

FIRST = 4.0
"""Likewise for what is not looked at yet."""

FIRST_SHARE = 0.1
"""Of the training that is planned, likewise."""

SMALL = 0.25
"""Seconds that a look for the first time may always take."""

TOO_LONG = "the looks at this model were long enough for a run of this length"
"""Why a look is not taken."""


@dataclass
class _Account:
    begun: float
    spent: float = 0.0
    price: float | None = None
    inside: bool = False


_ACCOUNTS: WeakKeyDictionary[Session, _Account] = WeakKeyDictionary()


def may_look(session: Session, price: float) -> bool:
    """Whether a look that takes so many seconds is within what looks may take together."""
    return price <= granted(session)


def may_begin(session: Session, passes: float = 0, small: float = SMALL) -> bool:
    """Whether a look may be taken for the first time that runs the model so often; any may while no price is known.

    One that takes no more than ``small`` seconds is taken in any case.
    """
    needed, left = passes * (price(session) or 0.0), first_granted(session)
    return 0 < needed <= small or (left > 0 and needed <= left)


def granted(session: Session) -> float:
    """Seconds that looks have left."""
    account = _account(session)
    return max(FLOOR, SHARE * (working_time() - account.begun)) - account.spent


def first_granted(session: Session) -> float:
    """Seconds that looks of a kind that was not taken yet have left."""
    account, context = _account(session), session.record.last(RunContext)
    planned = context.planned_steps if context is not None and context.planned_steps is not None else UNKNOWN
    share = FIRST_SHARE * planned * (account.price or 0.0)
    return max(granted(session), max(FIRST, share) - account.spent)


def priced(session: Session, seconds: float) -> None:
    """Notes what one pass through the model has taken; the least counts, for the first one warms up."""
    account = _account(session)
    account.price = seconds if account.price is None else min(account.price, seconds)


def price(session: Session) -> float | None:
    """Seconds that one pass takes, on a few samples and watched; ``None`` if none was made yet."""
    return _account(session).price


@contextlib.contextmanager
def looking(session: Session) -> Iterator[None]:
    """Charges what the block takes to the looks of a session; one inside another counts once."""
    account = _account(session)
    if account.inside:
        yield
        return
    account.inside, begun = True, working_time()
    try:
        yield
    finally:
        account.inside = False
        account.spent += working_time() - begun


def charge(session: Session, seconds: float) -> None:
    """Charges so many seconds to the looks of a session."""
    _account(session).spent += seconds


def _account(session: Session) -> _Account:
    return _ACCOUNTS.setdefault(session, _Account(working_time()))
