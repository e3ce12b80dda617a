"""What becomes of pictures and series between the loader and the net: flips, turns, signs that a step draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_debug.probes.batch_roles import Field
from lightning_debug.probes.relation_turns import ALIKE, APART, SMALLEST, TURNS

KEPT_SAMPLES, KEPT_BATCHES, MOST_VALUES = 16, 4, 2**17
"""The first samples of batches that are about to be looked at, as the loader gave them, if each has no more values."""
WHOLE = 2**19
"""Batches of no more values are kept whole: what is mixed into a sample may be any other."""
SHORTEST = 16
"""Steps of a series; shorter ones may be features in a row."""
FEWEST = 4
"""Samples that must be seen turned in training, and seen as they are in validation."""
AS_IT_IS = 0.9
"""Share of validation samples that reach the net unturned."""
MANY, EXPLAINED, OWN, LEAST_MIXED, SHARE = 64, 0.999, 0.99, 8, 0.3
"""Samples of at least so many values are mixed if they are, but for so little, two samples of the batch taken together
and not one of them alone; so many of them tell, that hold the other one to such a part."""
PASTED = 0.2
"""What is pasted varies, by so much of the whole: what is erased does not, and may be as dark as other pictures are."""
SAME = 1e-3
"""By so small a part may a value differ from its negative, or from what is missing to 1."""

OF_SERIES: dict[str, Callable[[Tensor], Tensor]] = {"reversed in time": lambda item: item.flip(-1)}
OF_VALUES: dict[str, Callable[[Tensor], Tensor]] = {"negated": lambda item: -item, "inverted": lambda item: 1 - item}
_ALL = TURNS | OF_SERIES | OF_VALUES

Place = tuple[int, int]
"""Epoch, and number of the batch in it."""


class StepTurns:
    """Compares what a loader delivered with what the first layer is given, sample by sample.

    Where a step mixes samples, or changes their labels, nothing is said: another sample is at the place, or another
    label is right.

    >>> from lightning_debug.probes.batch_roles import batch_roles
    >>> drawn = torch.Generator().manual_seed(0)
    >>> seen, batch = StepTurns(), (torch.randn(16, 1, 8, 8, generator=drawn), torch.arange(16) % 2)
    >>> for stage, met in (("train", batch[0].flip(-1).flatten(1)), ("validate", batch[0])):
    ...     seen.delivered(stage, (0, 0), batch_roles(batch))
    ...     seen.expect(stage, (0, 0))
    ...     seen.met("batch[0]", met)
    ...     seen.labelled({"batch[1]": batch[1]}, compared=True)
    >>> seen.made()
    ['flipped left to right']
    """

    def __init__(self) -> None:
        self._delivered: dict[tuple[str, Place], dict[str, Tensor]] = {}
        self._batch: dict[str, Tensor] = {}
        self._stage = ""
        self._found: dict[str, Counter[str]] = {"train": Counter(), "validate": Counter()}
        self._looked = Counter[str]()
        self._path = ""
        self._relabelled = False
        self._mixed: dict[str, list[float]] = {"train": [], "validate": []}

    def delivered(self, stage: str, place: Place, fields: Sequence[Field]) -> None:
        """Keeps the first samples of a batch that will be looked at, as they are read."""
        kept = {item.path: item.samples[: _count(item)].clone() for item in fields if _is_kept(item)}
        self._delivered[stage, place] = kept
        while len(self._delivered) > KEPT_BATCHES:
            del self._delivered[next(iter(self._delivered))]

    def expect(self, stage: str, place: Place) -> None:
        """A step is about to be looked at, with the batch of that place."""
        self._stage, self._batch = stage, self._delivered.pop((stage, place), {})

    def labelled(self, labels: Mapping[str, Tensor], *, compared: bool) -> None:
        """Takes the labels of the batch when its step is over, and whether a loss compared them as they were given."""
        batch, self._batch = self._batch, {}
        if batch:
            same = all(path in batch and _equal(batch[path], values) for path, values in labels.items())
            self._relabelled = self._relabelled or not labels or not (same and compared)

    def met(self, path: str, operand: Tensor, *, again: bool = False) -> None:
        """Takes what a first layer is given of a field; reads on the host.

        Where it is given the field ``again`` in the same step, what is compared may be of the other time.
        """
        self._relabelled = self._relabelled or again
        given = self._batch.get(path)
        if given is None or again or self._path not in ("", path):
            return
        first, taken = given[:KEPT_SAMPLES].float(), operand[:KEPT_SAMPLES].detach()
        if taken.is_complex() or taken.numel() != first.numel() or len(taken) != len(first):
            return
        taken = taken.float().cpu().reshape(first.shape)
        self._path = path
        self._found[self._stage] += _turns(first, taken)
        self._looked[self._stage] += len(taken)
        self._mixed[self._stage] += mixed_shares(given.float(), taken)

    @property
    def _is_known(self) -> bool:
        """Whether labels stay as they are, and validation samples as well."""
        seen = self._looked["validate"]
        return not self._relabelled and seen >= FEWEST and self._found["validate"][""] >= AS_IT_IS * seen

    def mixed(self) -> tuple[int, int, float]:
        """Training samples looked at, those that meet the net mixed with another, and their mean share of that."""
        shares = [share for share in self._mixed["train"] if share >= SHARE]
        if not self._is_known or len(shares) < LEAST_MIXED or any(self._mixed["validate"]):
            return self._looked["train"], 0, 0.0
        return self._looked["train"], len(shares), sum(shares) / len(shares)

    def made(self) -> list[str]:
        """The turns that training samples meet and validation samples do not."""
        train = self._found["train"]
        if not self._is_known:
            return []
        return [name for name, count in train.items() if name and count >= FEWEST]


def turned(name: str, rows: Any, shape: Sequence[int]) -> Any:
    """Rows of samples of a shape, each turned; ``None`` where that makes another shape.

    >>> import numpy as np
    >>> turned("flipped left to right", np.arange(4.0).reshape(1, 4), (2, 2)).tolist()
    [[1.0, 0.0, 3.0, 2.0]]
    """
    whole = torch.from_numpy(rows).reshape(len(rows), *shape)
    found = _ALL[name](whole)
    return found.reshape(len(rows), -1).numpy() if found.shape == whole.shape else None


def mixed_shares(batch: Tensor, taken: Tensor) -> list[float]:
    """How much of another sample there is in each of the first ones; 0 where they are not two taken together.

    Args:
        batch: ``(samples, ...)`` as delivered.
        taken: The first of them as a layer is given them.

    >>> batch = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    >>> [round(share, 2) for share in mixed_shares(batch, 0.75 * batch[:2] + 0.25 * batch[5:7])]
    [0.25, 0.25]
    >>> [round(share, 2) for share in mixed_shares(batch, torch.cat([batch[:2, :20], batch[5:7, 20:]], 1))]
    [0.8, 0.8]
    """
    rows, mixtures = batch.flatten(1), taken.flatten(1)
    if rows.shape[1] < MANY or len(rows) < 3 or not bool(rows.isfinite().all() & mixtures.isfinite().all()):
        return [0.0] * len(mixtures)
    rows, mixtures = (item - item.mean(1, keepdim=True) for item in (rows.double(), mixtures.double()))
    sizes = rows.norm(dim=1).clamp(min=1e-12)
    units, whole = rows / sizes[:, None], mixtures / mixtures.norm(dim=1, keepdim=True).clamp(min=1e-12)
    with_all, among = whole @ units.T, units[: len(whole)] @ units.T
    own = with_all.diagonal()[:, None]
    apart = (1 - among.square()).clamp(min=1e-6)
    explained = (own.square() + with_all.square() - 2 * own * with_all * among) / apart
    explained.fill_diagonal_(-1.0)
    highest, which = explained.max(1)
    places = torch.arange(len(whole))
    other = ((with_all - own * among) / apart)[places, which] / sizes[which]
    mine = ((own - with_all * among) / apart)[places, which] / sizes[places]
    share = other / (mine + other)
    is_mixed = (highest >= EXPLAINED) & (own[:, 0].square() < OWN) & (mine > 0) & (other > 0)
    pasted = _pasted_shares(batch.flatten(1), taken.flatten(1))
    return [float(value) for value in torch.where(is_mixed, share, pasted)]


def _pasted_shares(rows: Tensor, taken: Tensor) -> Tensor:
    """The part of each of the first samples in whose place another one's values stand; 0 where none's do."""
    found = torch.zeros(len(taken), dtype=torch.float64)
    for place, sample in enumerate(taken):
        changed = (sample - rows[place]).abs() > SAME * rows[place].abs().amax()
        part = float(changed.double().mean())
        varies = int(changed.sum()) >= MANY and bool(sample[changed].std() > PASTED * rows[place].std())
        if varies and part < 1:
            equal = ((rows[:, changed] - sample[changed]).abs() <= SAME * sample.abs().amax()).double().mean(1)
            found[place] = part if float(equal.amax()) >= OWN else 0.0
    return found


def _count(item: Field) -> int:
    """How many samples of a field are kept."""
    return len(item.samples) if item.tensor.numel() <= WHOLE else KEPT_SAMPLES


def _is_kept(item: Field) -> bool:
    if item.role == "label":
        return True
    wide = item.role == "input" and item.samples.ndim >= 2 and not item.tensor.is_complex()
    return wide and item.samples[:1].numel() <= MOST_VALUES


def _equal(one: Tensor, two: Tensor) -> bool:
    two = two[: len(one)].cpu()
    return one.shape == two.shape and bool((one == two).all())


def _turns(given: Tensor, taken: Tensor) -> Counter[str]:
    """How often each turn makes one sample from the other; ``""``: it is as it is."""
    found: Counter[str] = Counter()
    same = _alike(given, taken)
    found[""] = int((same >= ALIKE).sum())
    for name, change in OF_VALUES.items():
        apart = (change(given) - taken).abs().flatten(1).amax(1)
        found[name] = int(((apart <= SAME * given.abs().flatten(1).amax(1)) & (same <= -ALIKE)).sum())
    made = {name: turn(given) for name, turn in _candidates(given.shape).items()}
    names = [name for name, item in made.items() if item.shape == given.shape]
    if names:
        highest, which = torch.stack([_alike(made[name], taken) for name in names]).max(0)
        for place in which[(highest >= ALIKE) & (highest - same >= APART)].tolist():
            found[names[place]] += 1
    return +found


def _candidates(shape: Sequence[int]) -> dict[str, Callable[[Tensor], Tensor]]:
    if len(shape) >= 3 and min(shape[-2:]) >= SMALLEST:
        return TURNS
    return OF_SERIES if shape[-1] >= SHORTEST else {}


def _alike(one: Tensor, two: Tensor) -> Tensor:
    """Correlation of each sample with its counterpart, whatever the scale and offset of each channel."""
    flat = [item.flatten(2) if item.ndim >= 4 else item.flatten(1)[:, None] for item in (one, two)]
    flat = [item - item.mean(-1, keepdim=True) for item in flat]
    first, second = (item / item.norm(dim=-1, keepdim=True).clamp(min=1e-12) for item in flat)
    found: Tensor = (first * second).sum(-1).mean(1)
    return found
