"""Exceptions whose text is a :class:`~lightning_debug.evidence.Hindrance`."""

from __future__ import annotations

from lightning_debug.evidence import Hindrance


class Hindering(Exception):
    """What stands in the way of an experiment and can be changed."""

    def __str__(self) -> str:
        return Hindrance(super().__str__())
