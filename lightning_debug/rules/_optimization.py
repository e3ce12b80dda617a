"""What the rules about optimizers share: parameters by the part of the model they belong to."""

from __future__ import annotations

from collections.abc import Iterable

from lightning_debug.evidence.optimization import WatchedParameter


def parts(parameters: Iterable[WatchedParameter]) -> dict[str, list[WatchedParameter]]:
    """Parameters by part: the container that hides them, or else their module.

    >>> top = parts([WatchedParameter(name="head.0.weight", owner="head.0"), WatchedParameter(name="scale")])
    >>> sorted(top)
    ['head.0', 'scale']
    """
    found: dict[str, list[WatchedParameter]] = {}
    for item in parameters:
        place = item.held_in or item.owner or item.name
        found.setdefault(place, []).append(item)
    roots: dict[str, list[WatchedParameter]] = {}
    for place, items in found.items():
        top = place if items[0].held_in else place.partition(".")[0]
        roots.setdefault(top, []).extend(items)
    merged: dict[str, list[WatchedParameter]] = {}
    for top, items in roots.items():
        merged[_common([item.held_in or item.owner or item.name for item in items], top)] = items
    return merged


def _common(places: list[str], top: str) -> str:
    if len(set(places)) == 1 and places[0].startswith(top):
        return places[0] if places[0].count(".") else top
    shared = []
    for words in zip(*(place.split(".") for place in places), strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return top if len(shared) <= 1 else ".".join(shared)


def counted(items: list[WatchedParameter]) -> str:
    """``2 parameters (64 values)``."""
    values = sum(item.numel for item in items)
    return f"{len(items)} trainable parameter{'s' * (len(items) > 1)} ({values:,} value{'s' * (values > 1)})"
