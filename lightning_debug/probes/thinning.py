"""Steps through the values of a tensor that do not fall in with the sizes of its samples."""

from __future__ import annotations

import math
from collections.abc import Iterable


def even_step(count: int, most: int, sizes: Iterable[int] = ()) -> int:
    """The least step that leaves at most so many of some values and meets each place of a sample as often.

    A step that shares a divisor with a size visits few places of it: every 32nd value of images of 8 x 8 lies in
    their first column, whatever is beside it.

    Args:
        count: How many values there are, read flat.
        most: How many may be left.
        sizes: The sizes that repeat along them, such as those of a sample; 0 and 1 repeat nothing.

    >>> even_step(31808, 1024), even_step(31808, 1024, (8, 8)), even_step(100, 1000, (8, 8))
    (32, 33, 1)
    """
    step = max(1, -(-count // max(1, most)))
    if step == 1:
        return 1
    period = math.prod(size for size in sizes if size > 1)
    while math.gcd(step, period) > 1:
        step += 1
    return step
