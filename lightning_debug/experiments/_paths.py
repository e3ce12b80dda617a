"""Paths to objects that a walk met, written only where they are shown."""

from __future__ import annotations

from typing import Any

Path = tuple[Any, str | tuple[str, Any]]
"""Linked steps: the path before, and the last step as text or as a form and the key that it is to show."""


def render(path: Path | None) -> str:
    """A path as the user would write it."""
    steps: list[str] = []
    while path is not None:
        step = path[1]
        steps.append(step if isinstance(step, str) else step[0].format(step[1]))
        path = path[0]
    return "".join(reversed(steps))
