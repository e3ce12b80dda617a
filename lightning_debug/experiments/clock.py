"""The time that an experiment is charged for: what its thread computes, so that a busy machine does not cut it short.

Where other programs take most of the processor, a second on the wall holds a tenth of a second of work. A budget in
seconds on the wall would then make findings depend on what else the machine does.
"""

from __future__ import annotations

import threading
import time

LEAST = 1 / 3
"""Of the time on the wall, what is charged at least: waiting (for a device, a disk, other ranks) is not free."""


class _Clock(threading.local):
    def __init__(self) -> None:
        self.wall, self.computed, self.charged = time.monotonic(), time.thread_time(), 0.0


_CLOCK = _Clock()


def working_time() -> float:
    """Seconds from an arbitrary point: as fast as this thread computes, and a third as fast as the wall at least."""
    wall, computed = time.monotonic(), time.thread_time()
    _CLOCK.charged += max(computed - _CLOCK.computed, (wall - _CLOCK.wall) * LEAST)
    _CLOCK.wall, _CLOCK.computed = wall, computed
    return _CLOCK.charged
