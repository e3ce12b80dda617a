"""What the experiments of a fit may cost together.

Inside ``Debugger`` they share ``settings.experiment_seconds``, and a tenth of the training that is planned: the time
of one step in the sandbox times the steps to come. Runs so short that a tenth is nothing are judged too: one second
is always granted, if the setting grants it. A callback that the user asked for by itself is not held to a share.

    with spending(self.session):                      # what the block takes is charged to all experiments
        step_seconds = ...                            # time one step
        seconds = remaining(self.session, step_seconds, keep=0.4)
        if seconds <= 0:
            ...                                       # say so: Unavailable
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from lightning_debug.evidence import RunContext
from lightning_debug.experiments.clock import working_time
from lightning_debug.session import Session

SHARE = 0.1
"""Of the training that is planned, what the experiments may take."""

FLOOR = 1.0
"""Seconds that are granted even where the share is less."""

UNKNOWN = 2000
"""Steps that a run is taken to have where it is not known how long it is, as with streams."""

_SPENT: WeakKeyDictionary[Session, float] = WeakKeyDictionary()
_SINCE: WeakKeyDictionary[Session, float] = WeakKeyDictionary()


def remaining(session: Session, step_seconds: float | None = None, *, keep: float = 0.0) -> float:
    """Seconds that the experiments of a session have left; 0 or less when they are used up.

    Args:
        session: The session of the fit (``self.session``). What is inside a :func:`spending` block now counts.
        step_seconds: What one training step takes. Without it only the setting and the floor are known: the
            answer is then what is granted for certain, which is enough to time a step.
        keep: Share of the whole that is left to the experiments that come later.
    """
    limit = session.settings.experiment_seconds
    context = session.record.last(RunContext)
    planned = context.planned_steps if context is not None else None
    if step_seconds is None:
        limit = min(limit, FLOOR)
    else:
        limit = min(limit, max(FLOOR, SHARE * step_seconds * (UNKNOWN if planned is None else planned)))
    return limit * (1 - keep) - spent(session)


def spent(session: Session) -> float:
    """Seconds that the experiments of a session have taken so far, the one that is running included."""
    since = _SINCE.get(session)
    return _SPENT.get(session, 0.0) + (working_time() - since if since is not None else 0.0)


@contextlib.contextmanager
def spending(session: Session) -> Iterator[None]:
    """Charges what the block takes to the experiments of a session."""
    if session in _SINCE:  # inside another block, which counts already
        yield
        return
    _SINCE[session] = working_time()
    try:
        yield
    finally:
        _SPENT[session] = spent(session)
        del _SINCE[session]
