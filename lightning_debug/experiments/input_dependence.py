"""Gives every sample another sample's input, and looks whether predictions change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.model import InputDependence, Place
from lightning_debug.experiments.model_runs import Passes
from lightning_debug.probes.model_trace import ModelTrace, Prediction, changed, comparable, not_masked, place

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


def where_lost(passes: Passes) -> Place:
    """The first call, in order, that a parameter has a part in and whose output exchanged inputs leave as it is."""
    base = passes.run(passes.batch(), every=True)
    other = passes.run(passes.batch([*range(1, passes.samples), 0]), every=True)
    alive: set[int] = set()
    found = Place()
    for op, before, after in comparable(base, other):
        mask = changed(before, after)
        if mask is None:
            continue
        if bool(mask.any()):
            alive.add(op.index)
            found = Place()
        elif (
            not found.name
            and base.note(op).model
            and any(source is not None and source.index in alive for source in op.inputs)
        ):
            found = place(op)
    return found


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
