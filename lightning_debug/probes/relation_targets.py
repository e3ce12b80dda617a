"""Through which token an output of a language model sees, and which token it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_debug.probes.loss_tap import HeardLoss

EQUAL = 0.98
"""Share of targets that are the tokens at an offset, from which on that is the offset."""
DIFFERENT = 0.9
"""Another offset must not fit as well as this: a sequence that repeats one token fits everywhere."""
FURTHEST = 3
FEWEST = 6
"""Places from which a token that is changed is picked, at least."""


@dataclass(frozen=True)
class Seen:
    """Where a change of one token shows.

    Args:
        first: The first output that changes, less the place of the token; the smallest over the samples.
        all_before: Whether outputs at the very beginning change: the net sees the whole sequence.
    """

    first: int
    all_before: bool


def rows_by_sample(scores: Tensor, samples: int) -> Tensor | None:
    """Scores of a loss on classes as ``(samples, positions, classes)``.

    >>> import torch
    >>> rows_by_sample(torch.zeros(12, 5), 3).shape, rows_by_sample(torch.zeros(3, 5, 4), 3).shape
    (torch.Size([3, 4, 5]), torch.Size([3, 4, 5]))
    """
    if scores.ndim == 2 and len(scores) % samples == 0:
        return scores.reshape(samples, -1, scores.shape[1])
    if scores.ndim == 3 and len(scores) == samples:
        return scores.movedim(1, -1)
    return None


def first_counted(call: HeardLoss, samples: int, length: int) -> int:
    """The first place whose target counts: a net may be free to look at all that comes before, as a prefix.

    0 where less than :data:`FEWEST` places are left.
    """
    if call.target.numel() % samples:
        return 0
    counts = (call.target.reshape(samples, -1) != call.options.get("ignore_index", -100)).any(0).nonzero()
    first = int(counts[0]) if len(counts) else 0
    return first if length - first >= FEWEST else 0


def seen_through(calm: HeardLoss, changed: HeardLoss, samples: int, place: int) -> Seen | None:
    """Compares the scores before and after the tokens at ``place`` were changed; ``None`` where none changes."""
    before, after = rows_by_sample(calm.scores, samples), rows_by_sample(changed.scores, samples)
    if before is None or after is None or before.shape != after.shape:
        return None
    gap = (before.float() - after.float()).abs().amax(-1)
    scale = before.float().abs().amax() * 1e-5 + 1e-7
    differs = gap > scale
    if not bool(differs.any()):
        return None
    first = int(differs.any(0).int().argmax())
    return Seen(first - place, all_before=first <= place // 2)


def offset_of(call: HeardLoss, tokens: Tensor, seen: Sequence[Seen | None]) -> tuple[int, int, int, float, int] | None:
    """The offset of targets against the last token seen; ``None`` where the net is not causal or nothing fits.

    Returns:
        Offset, offset of the targets, offset through which outputs see, share of targets that fit, targets compared.
    """
    known = [item for item in seen if item is not None]
    if len(known) < 2 or any(item.all_before for item in known):
        return None
    firsts = {item.first for item in known}
    if len(firsts) != 1:
        return None
    seen_offset = -firsts.pop()  # output r sees tokens up to r + seen_offset
    samples, length = tokens.shape
    targets = call.target.reshape(samples, -1).to(tokens.device)
    ignored = call.options.get("ignore_index", -100)
    fits: dict[int, tuple[float, int]] = {}
    for offset in range(-FURTHEST, FURTHEST + 1):
        low, high = max(0, -offset), min(targets.shape[1], length - offset)
        if high - low < 4:
            continue
        one, two = targets[:, low:high], tokens[:, low + offset : high + offset]
        kept = one != ignored
        if int(kept.sum()) >= 4:
            fits[offset] = float((one == two)[kept].float().mean()), int(kept.sum())
    good = [offset for offset, (share, _) in fits.items() if share >= EQUAL]
    if len(good) != 1 or any(share > DIFFERENT for offset, (share, _) in fits.items() if offset != good[0]):
        return None
    moved = good[0]
    share, positions = fits[moved]
    if positions < 0.3 * targets.numel():
        return None  # most targets are left out: tokens that were masked
    return moved - seen_offset, moved, seen_offset, share, positions
