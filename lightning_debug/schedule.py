"""Schedules: from a step (from 0) to whether something is due then. They can be pickled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int], bool]


@dataclass(frozen=True)
class Due:
    """When something is due; one call, for it is asked in every step.

    Args:
        first: On so many first steps.
        steps: On these.
        every: On step 0 and every so many after it, for each of these numbers.
    """

    first: int = 0
    steps: frozenset[int] = frozenset()
    every: tuple[int, ...] = ()

    def __call__(self, step: int) -> bool:
        """Whether it is due on a step."""
        if step < self.first or step in self.steps:
            return True
        for n in self.every:  # noqa: SIM110 - any() with a generator takes three times as long
            if step % n == 0:
                return True
        return False


def first(n: int) -> Due:
    """Due on the first ``n`` steps.

    >>> [step for step in range(5) if first(2)(step)]
    [0, 1]
    """
    return Due(first=n)


def every(n: int) -> Due:
    """Due on step 0 and every ``n`` steps after it.

    Raises:
        ValueError: If ``n`` is below 1.

    >>> [step for step in range(7) if every(3)(step)]
    [0, 3, 6]
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    return Due(every=(n,))


def at(*steps: int) -> Due:
    """Due on the steps named.

    >>> [step for step in range(7) if at(1, 5)(step)]
    [1, 5]
    """
    return Due(steps=frozenset(steps))


def either(*schedules: Due) -> Due:
    """Due when one of several schedules is.

    >>> [step for step in range(9) if either(first(2), every(4))(step)]
    [0, 1, 4, 8]
    """
    steps = frozenset[int]().union(*(item.steps for item in schedules))
    multiples = tuple(n for item in schedules for n in item.every)
    return Due(max((item.first for item in schedules), default=0), steps, multiples)
