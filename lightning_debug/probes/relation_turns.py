"""Whether a random flip or turn of a picture carries along the map that is its target: draws of one sample compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_debug.probes.batch_roles import Field

TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "flipped left to right": lambda item: item.flip(-1),
    "flipped upside down": lambda item: item.flip(-2),
    "turned by 180 degrees": lambda item: item.flip(-1, -2),
    "transposed": lambda item: item.transpose(-1, -2),
    "turned by 90 degrees": lambda item: item.rot90(1, (-2, -1)),
    "turned by 270 degrees": lambda item: item.rot90(3, (-2, -1)),
}
ALIKE, APART = 0.9, 0.2
"""A draw is another one, turned, where they agree by this correlation, and by so much less as they are."""
SMALLEST = 8
"""Pixels of a side; smaller ones may be tables."""
DIFFERS = 0.01
"""Share of a map that a turn must change."""


@dataclass(frozen=True)
class TurnedMaps:
    """Pairs of draws of one sample whose pictures are each other's, flipped or turned.

    Args:
        turned: Such pairs in which the same turn changes the map,
        kept: those of them in which the map is as it was,
        astray: and those in which it is turned in another way than the picture.
        samples: Samples that these are of.
        image: Path of the pictures.
        target: Path of the maps.
        turn: The turn most often found, as a participle.
    """

    turned: int
    kept: int
    astray: int
    samples: int
    image: str
    target: str
    turn: str


def turned_maps(draws: Sequence[Sequence[Sequence[Field]]]) -> TurnedMaps | None:
    """Finds pictures that are turned while a map of the same size beside them is not.

    Args:
        draws: For each sample, the fields of a batch that holds it alone, one for each time it was drawn.

    >>> from lightning_debug.probes.batch_roles import batch_roles
    >>> image, target = torch.randn(1, 1, 8, 8), (torch.randn(1, 8, 8) > 0).long()
    >>> turned_maps([[batch_roles((image, target)), batch_roles((image.flip(-1), target))]]).kept
    1
    """
    if not draws or not draws[0]:
        return None
    first = draws[0][0]
    pictures = [at for at, item in enumerate(first) if item.tensor.is_floating_point() and _is_map(item)]
    maps = [at for at, item in enumerate(first) if _is_map(item)]
    for picture, target in itertools.product(pictures, maps):
        if picture != target and _is_target(first[target], first[picture]):
            found = _compare(draws, picture, target)
            if found is not None and (found.kept or found.astray):
                return found
    return None


def _compare(draws: Sequence[Sequence[Sequence[Field]]], picture: int, target: int) -> TurnedMaps | None:
    turns: list[str] = []
    kept = astray = samples = 0
    maps = []
    for times in draws:
        before = len(turns)
        for one, two in itertools.combinations(times, 2):
            if len(one) != len(two) or max(picture, target) >= len(one):
                return None
            name, unlike = _turn(one[picture].tensor, two[picture].tensor)
            if name and _changes(TURNS[name], one[target].tensor):
                turns.append(name)
                kept += _equal(one[target].tensor, two[target].tensor)
                apart = [] if _carries(TURNS[name], one[target].tensor, two[target].tensor) else unlike
                astray += any(_carries(TURNS[other], one[target].tensor, two[target].tensor) for other in apart)
        samples += len(turns) > before
        maps.append(times[0][target].tensor)
    if not turns or (all(_equal(maps[0], other) for other in maps[1:]) and len(maps) > 1):
        return None  # one map for all samples: the edge of a lens
    most = max(set(turns), key=turns.count)
    first = draws[0][0]
    return TurnedMaps(len(turns), kept, astray, samples, first[picture].path, first[target].path, most)


def _is_map(item: Field) -> bool:
    return item.tensor.ndim >= 3 and min(item.tensor.shape[-2:]) >= SMALLEST and not item.tensor.is_complex()


def _is_target(item: Field, picture: Field) -> bool:
    """Labels, masks, and what has other channels; one more picture of the same shape may be a view of its own."""
    if item.tensor.shape[-2:] != picture.tensor.shape[-2:]:
        return False
    few = not item.tensor.is_floating_point() or len(torch.unique(item.tensor)) <= 2
    return few or item.role in ("label", "mask") or item.tensor.shape != picture.tensor.shape


def _turn(one: Tensor, two: Tensor) -> tuple[str, list[str]]:
    """How the second is made from the first, and how it is not; empty where it is as it was, or changed otherwise."""
    if one.shape != two.shape:
        return "", []
    same = _correlation(one, two)
    found = {}
    for name, turn in TURNS.items():
        turned = turn(one)
        if turned.shape == two.shape:
            found[name] = _correlation(turned, two)
    best = max(found, key=lambda name: found[name])
    clear = found[best] >= ALIKE and found[best] - same >= APART
    return (best, [name for name in found if found[best] - found[name] >= APART]) if clear else ("", [])


def _carries(turn: Callable[[Tensor], Tensor], one: Tensor, two: Tensor) -> bool:
    """Whether the turn makes the second map from the first, which it changes."""
    return _changes(turn, one) and _equal(turn(one), two)


def _changes(turn: Callable[[Tensor], Tensor], item: Tensor) -> bool:
    turned = turn(item)
    return turned.shape == item.shape and float((turned != item).float().mean()) > DIFFERS


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.equal(one, two)


def _correlation(one: Tensor, two: Tensor) -> float:
    first, second = (item.detach().double().flatten() for item in (one, two))
    first, second = first - first.mean(), second - second.mean()
    size = float(first.norm() * second.norm())
    return float(first @ second) / size if size > 0 else 0.0
