"""Schedules: plain functions from a step (from 0) to whether something is due then. They can be pickled."""

from __future__ import annotations

import functools
from collections.abc import Callable

Schedule = Callable[[int], bool]


def first(n: int) -> Schedule:
    """Due on the first ``n`` steps.

    >>> [step for step in range(5) if first(2)(step)]
    [0, 1]
    """
    return functools.partial(_first, n)


def every(n: int) -> Schedule:
    """Due on step 0 and every ``n`` steps after it.

    Raises:
        ValueError: If ``n`` is below 1.

    >>> [step for step in range(7) if every(3)(step)]
    [0, 3, 6]
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    return functools.partial(_every, n)


def at(*steps: int) -> Schedule:
    """Due on the steps named.

    >>> [step for step in range(7) if at(1, 5)(step)]
    [1, 5]
    """
    return functools.partial(_at, frozenset(steps))


def either(*schedules: Schedule) -> Schedule:
    """Due when one of several schedules is.

    >>> [step for step in range(9) if either(first(2), every(4))(step)]
    [0, 1, 4, 8]
    """
    return functools.partial(_either, schedules)


def _first(n: int, step: int) -> bool:
    return step < n


def _every(n: int, step: int) -> bool:
    return step % n == 0


def _at(steps: frozenset[int], step: int) -> bool:
    return step in steps


def _either(schedules: tuple[Schedule, ...], step: int) -> bool:
    for schedule in schedules:  # noqa: SIM110 - asked in every step, and any() with a generator takes three times as long
        if schedule(step):
            return True
    return False
