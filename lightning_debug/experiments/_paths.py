"""How a walk goes on from an object, and the paths to objects, written only where they are shown."""

from __future__ import annotations

from typing import Any, NamedTuple

Path = tuple[Any, str | tuple[str, Any]]
"""Linked steps: the path before, and the last step as text or as a form and the key that it is to show."""


class Manner(NamedTuple):
    """How a part of the graph is walked.

    Attributes:
        lenient: Whether what cannot be put back is passed over instead of refused.
        copies: Whether bytes of tensors and arrays are copied.
    """

    lenient: bool = False
    copies: bool = True


def render(path: Path | None) -> str:
    """A path as the user would write it."""
    steps: list[str] = []
    while path is not None:
        step = path[1]
        steps.append(step if isinstance(step, str) else step[0].format(step[1]))
        path = path[0]
    return "".join(reversed(steps))
