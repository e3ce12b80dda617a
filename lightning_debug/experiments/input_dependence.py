"""Gives every sample another sample's input, and looks whether predictions change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.model import InputDependence, Place
from lightning_debug.experiments.model_runs import Passes
from lightning_debug.probes.loss_origins import ancestors
from lightning_debug.probes.model_trace import ModelTrace, Prediction, changed, comparable, not_masked, place
from lightning_debug.probes.trace import Op

AMOUNTS = frozenset({"difference", "gaussian_nll_loss", "huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"})
"""Losses that take targets for amounts: what a prediction is to tell apart has their spread."""


def input_dependence(passes: Passes, base: ModelTrace, **known: Any) -> list[InputDependence]:
    """What exchanging inputs does to each prediction whose target comes from the batch.

    Args:
        passes: Where to run.
        base: The batch as it is.
        known: Further fields of the result.

    Raises:
        NotJudged: If passes cannot be compared.
    """
    shifted = passes.batch([*range(1, passes.samples), 0])
    other = passes.run(shifted)
    found = []
    for mine, twin in zip(base.predictions, other.predictions, strict=False):
        alike = (mine.kind, mine.op.line) == (twin.kind, twin.op.line) and mine.scores.shape == twin.scores.shape
        if not alike or mine.target is None or twin.target is None or mine.target.shape != twin.target.shape:
            continue
        if not base.depends(mine.scores, mine.made).fields:
            continue  # a parameter that data are compared with: the mean of a cluster
        if bool(torch.isnan(mine.scores).any() | torch.isnan(twin.scores).any()):
            continue
        counted = not_masked(mine.scores) & not_masked(twin.scores)
        if _is_mask(mine.target):
            continue
        if mine.kind == "product" or not bool(counted.any()):
            continue  # weights of a policy's log-probabilities; or nothing but a mask
        change = float((mine.scores.double() - twin.scores.double())[counted].abs().max())
        found.append(
            InputDependence(
                **known,
                function=mine.kind,
                line=mine.op.line,
                module="" if mine.made is None else mine.made.module,
                samples=passes.samples,
                change=change,
                scale=float(mine.scores[counted].double().abs().max()),
                spread=_spread(mine),
                targets_vary=bool((mine.target != twin.target).any()),
            )
        )
    other.release()
    return found


def where_lost(passes: Passes) -> tuple[Place, Place]:
    """Where exchanged inputs cease to make a difference.

    Only calls that lead to a prediction are asked: a mean over samples, as losses and metrics take, is the same for
    samples in any order.

    Returns:
        The first call, in order, that a parameter has a part in and whose output they leave as it is though they
        change what it is given; and the first that takes something of the batch, where they change none.
    """
    base = passes.run(passes.batch(), every=True)
    other = passes.run(passes.batch([*range(1, passes.samples), 0]), every=True)
    alive: set[int] = set()
    still = {index for index, ids in base.whole.items() if _equal(ids, other.whole.get(index))}
    found, first, reached = Place(), Place(), False
    leading = ancestors(item.made for item in base.predictions)
    for op, before, after in comparable(base, other):
        mask = changed(before, after)
        if mask is None or (leading and op.index not in leading):
            continue
        note = base.note(op)
        if not first.name and note.layer and note.fields and _given_made(base, op, still):
            first = place(op)
        moved = bool(mask.any())
        (alive if moved else still).add(op.index)
        reached = reached or (note.model and moved)
        if moved:
            found = Place()
        elif (
            not found.name and note.model and any(source is not None and source.index in alive for source in op.inputs)
        ):
            found = place(op)
    return found, Place() if reached or found.name else first


def _equal(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and torch.equal(one, other)


def _given_made(trace: ModelTrace, op: Op, still: set[int]) -> bool:
    """Whether all that a call takes of the batch comes from other calls whose outputs exchanged inputs leave alike."""
    taken = [source for source in trace.note(op).sources if source.fields and not source.model]
    made = [item for item in op.inputs if item is not None and trace.note(item).fields and not trace.note(item).model]
    return bool(made) and len(made) == len(taken) and all(item.index in still for item in made)


def _is_mask(target: Tensor) -> bool:
    """Whether there are zeros and huge numbers only: a mask that is added to distances or scores."""
    if not target.is_floating_point():
        return False
    small = not_masked(target)
    return not bool(small.all()) and not bool(target[small].any())


def _spread(prediction: Prediction) -> float:
    target: Tensor | None = prediction.target
    if target is None or prediction.kind not in AMOUNTS:
        return 1.0
    target = target[not_masked(target)] if target.is_floating_point() else target
    return 1.0 if target.numel() < 2 else float(target.double().std())
