"""Replaces the later part of sequences, and looks whether predictions before it change."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_debug.evidence.model import FutureLeak
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.experiments.model_runs import Passes
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.model_trace import ModelTrace, Prediction, changed, comparable, place
from lightning_debug.probes.trace import Op
from lightning_debug.probes.vocabulary import RESHAPES

SHORTEST = 4
"""Steps that a sequence must have."""


class _Sequence:
    """A batch field, and the predictions of what it holds one step later."""

    def __init__(self, name: str, field: Tensor, prediction: Prediction, facts: tuple[float, float, int, int]) -> None:
        self.name, self.field, self.prediction = name, field, prediction
        self.next_share, self.same_share, self.steps, self.start = facts


def future_leak(passes: Passes) -> FutureLeak | None:
    """What the later part of a sequence does to earlier predictions; ``None`` where nothing is predicted ahead.

    Raises:
        NotJudged: If passes cannot be compared.
    """
    base = passes.run(passes.batch())
    found = [
        sequence
        for prediction in base.predictions
        for name, field in batch_fields(passes.batch())
        if (sequence := _ahead(name, field, prediction)) is not None
    ]
    if not found:
        return None
    passes.same(base)
    results = [_leak(passes, base, sequence) for sequence in found]
    # An encoder may read the same tokens in another field, and is free to look ahead in them; a field that moves
    # nothing at all is there for the loss alone.
    read = [item for item in results if item.changed or item.after]
    return min(read or results, key=lambda item: item.changed)


def _ahead(name: str, field: Tensor, prediction: Prediction) -> _Sequence | None:
    """The field as a sequence whose next steps are predicted, or ``None``."""
    target = prediction.target
    if target is None or field.ndim < 2 or not field.shape[0] or target.numel() % field.shape[0]:
        return None
    length, rest = field.shape[1], field[0, 0].numel() if field.shape[1] else 0
    goal = target.reshape(field.shape[0], -1)
    if length < SHORTEST or not rest or goal.shape[1] % rest or goal.shape[1] > rest * length:
        return None
    steps = goal.shape[1] // rest
    if steps < SHORTEST:
        return None
    counted = torch.ones_like(goal, dtype=torch.bool)
    if not goal.is_floating_point():
        counted = goal != (prediction.ignore if prediction.ignore is not None else -100)
        counted &= goal >= 0
    if goal.dtype == torch.bool:
        return None
    # The last steps alone may be predicted, of which the last one lies in the field or one step behind it.
    for start in (0,) if steps >= length - 1 else (length - steps, length - steps - 1):
        values = field.reshape(field.shape[0], length * rest)[:, rest * start :]
        ahead, same = values[:, rest:], values[:, :-rest]
        part, counts = goal[:, : ahead.shape[1]], counted[:, : ahead.shape[1]]
        if not bool(counts.any()):
            continue
        next_share = float((part == ahead)[counts].float().mean())
        same_share = float((part == same)[counts].float().mean())
        if next_share >= 0.95 and same_share <= 0.9:
            return _Sequence(name, field, prediction, (next_share, same_share, steps, start))
    return None


def _by_step(scores: Tensor, prediction: Prediction, samples: int, steps: int) -> Tensor | None:
    """Scores as (samples, steps, anything)."""
    if prediction.is_classes and scores.ndim > 2:
        scores = scores.movedim(1, -1)
    if scores.numel() % (samples * steps):
        return None
    return scores.reshape(samples, steps, -1)


def _counted(sequence: _Sequence, count: int) -> Tensor:
    """(samples, steps): which have a target that counts."""
    target, ignore = sequence.prediction.target, sequence.prediction.ignore
    assert target is not None
    targets = target.reshape(count, sequence.steps, -1)
    if targets.is_floating_point():
        return torch.ones(count, sequence.steps, dtype=torch.bool, device=targets.device)
    return (targets != (-100 if ignore is None else ignore)).any(2)


def _cut(sequence: _Sequence, count: int) -> int:
    """From which step on sequences are replaced: the half of them, and behind some targets that count."""
    length = sequence.field.shape[1] - sequence.start
    counting = _counted(sequence, count).any(0).nonzero().flatten()
    first, half = int(counting[0]) if len(counting) else 0, max(2, length // 2)
    return sequence.start + (half if first < half else min(length - 1, first + 1 + (length - 1 - first) // 2))


def _leak(passes: Passes, base: ModelTrace, sequence: _Sequence) -> FutureLeak:
    count, steps = passes.samples, sequence.steps
    cut = _cut(sequence, count)
    behind = cut - sequence.start  # counted in predictions
    other = passes.run(_replaced(passes, sequence.name, cut))
    twin = next(
        (
            item
            for item, mine in zip(other.predictions, base.predictions, strict=False)
            if mine is sequence.prediction and item.op.line == mine.op.line
        ),
        None,
    )
    mask = None if twin is None else changed(sequence.prediction.scores, twin.scores)
    shaped = None if mask is None else _by_step(mask, sequence.prediction, count, steps)
    if shaped is None or twin is None:
        raise NotJudged("predictions have another shape when the end of the sequences is replaced")
    moved = shaped.any(dim=2)
    moved &= _counted(sequence, count)
    early = moved[:, :behind]  # the last of these is of what stands at cut, and may not know it either
    difference = (sequence.prediction.scores.float() - twin.scores.float()).abs()
    by_step = _by_step(difference, sequence.prediction, count, steps)
    scale = float(sequence.prediction.scores.float().abs().max())
    leaks = bool(early.any())
    return FutureLeak(
        field=sequence.name,
        function=sequence.prediction.kind,
        line=sequence.prediction.op.line,
        steps=steps,
        cut=cut,
        next_share=sequence.next_share,
        same_share=sequence.same_share,
        changed=float(early.float().mean()),
        after=float(moved[:, behind:].float().mean()) if steps > behind else 0.0,
        change=float(by_step[:, :behind].max()) / scale if by_step is not None and scale else 0.0,
        first=place(_first(passes, sequence, cut)) if leaks else place(None),
        readings=_readings(base, sequence.name),
    )


def _replaced(passes: Passes, name: str, cut: int) -> object:
    """The batch, with the end of each sequence taken from another sample."""
    batch = passes.batch()
    field = dict(batch_fields(batch))[name]
    with torch.no_grad():
        donor = field.detach().roll(1, dims=0)
        same = (field == donor).reshape(field.shape[0], -1).all(dim=1)
        if bool(same.all()):
            donor = field.detach().flip(1)
        field[:, cut:] = donor[:, cut:]
    return batch


def _first(passes: Passes, sequence: _Sequence, cut: int) -> Op | None:
    """The first call with steps along one dimension whose output changes before ``cut``."""
    count, length = passes.samples, sequence.field.shape[1]
    try:
        base = passes.run(passes.batch(), every=True)
        other = passes.run(_replaced(passes, sequence.name, cut), every=True)
    except NotJudged:
        return None
    sizes = {length, sequence.steps}
    for op, before, after in comparable(base, other):
        shape = tuple(before.shape)
        dims = [dim for dim, size in enumerate(shape) if size in sizes]
        if count not in shape or len(dims) != 1:
            continue
        mask = changed(before, after)
        early = cut if before.shape[dims[0]] == length else cut - sequence.start
        if mask is not None and bool(mask.narrow(dims[0], 0, early).any()):
            return op
    return None


def _readings(base: ModelTrace, name: str) -> int:
    """How many calls work on a field, views and casts of it left out."""
    if name not in base.field_names:
        return 0
    index = base.field_names.index(name)
    readers = 0
    for op in base.ops:
        note = base.note(op)
        if op.name in RESHAPES or not note.layer:
            continue
        sources = note.sources
        readers += any(index in source.fields and not source.model for source in sources)
    return readers
