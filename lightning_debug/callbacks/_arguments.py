"""Arguments of callbacks, checked where they are given: a wrong one is told before a run begins, not in its midst.

Each function takes arguments by their names, and raises ``ValueError`` at the first that is not accepted. What a name
stands for is only there when the run has begun: :func:`missing` warns.

>>> whole(1, patience=3, min_epochs=0)
Traceback (most recent call last):
ValueError: min_epochs=0 is not accepted; give a whole number from 1 on
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Collection, Sequence
from typing import Any, NoReturn


def refuse(name: str, value: Any, accepted: str) -> NoReturn:
    """Raises the error of them all.

    Raises:
        ValueError: With name, value, and what is accepted.
    """
    raise ValueError(f"{name}={value!r} is not accepted; {accepted}")


def chosen(words: Sequence[str], otherwise: str = "", **given: Any) -> None:
    """Each is one of the words; ``None`` too, where ``otherwise`` says what that means."""
    for name, value in given.items():
        if not (isinstance(value, str) and value in words) and not (value is None and otherwise):
            refuse(name, value, f"choose from {', '.join(words)}{otherwise}")


def flags(**given: Any) -> None:
    """Each is true or false: any other value, such as the word ``"false"``, would silently count as one of them."""
    for name, value in given.items():
        if not isinstance(value, bool):
            refuse(name, value, "give True or False")


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number from ``least`` on."""
    return not isinstance(value, bool) and isinstance(value, numbers.Integral) and int(value) >= least


def is_above(value: Any, least: float = 0.0) -> bool:
    """Whether a value is a finite number above ``least``."""
    real = not isinstance(value, bool) and isinstance(value, numbers.Real)
    return real and math.isfinite(value) and float(value) > least


def whole(least: int, **given: Any) -> None:
    """Each is a whole number from ``least`` on."""
    for name, value in given.items():
        if not is_whole(value, least):
            refuse(name, value, f"give a whole number from {least} on")


def positive(otherwise: str = "", **given: Any) -> None:
    """Each is a finite number above 0; ``None`` too, where ``otherwise`` says what that means."""
    for name, value in given.items():
        if not is_above(value) and not (value is None and otherwise):
            refuse(name, value, f"give a finite number above 0{otherwise}")


def words(*, several: bool = False, **given: Any) -> None:
    """Each is ``None`` or a word; a list of words too, where there may be several."""
    for name, value in given.items():
        listed = value if several and isinstance(value, (list, tuple)) and value else [value]
        if value is not None and not all(isinstance(word, str) and word.strip() for word in listed):
            refuse(name, value, f"give a name{' or a list of names' if several else ''}, or leave it out")


def missing(callback: str, there: Collection[str], what: str, **given: str | Sequence[str] | None) -> None:
    """Warns of names that nothing has: one is misspelt, or comes later.

    Args:
        callback: Whose arguments they are.
        there: All names that there are.
        what: What a name should be, as in "is no logged value".
        **given: The names by argument.
    """
    for name, value in given.items():
        for word in [value] if isinstance(value, str) else value or ():
            if word not in there:
                told = f"{callback}: {name}={word!r} is no {what}, and is passed over"
                warnings.warn(f"{told}; there are {', '.join(sorted(there))}", stacklevel=3)
