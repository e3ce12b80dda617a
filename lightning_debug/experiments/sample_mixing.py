"""Replaces single samples of a batch, and looks whose outputs change."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debug.evidence.model import SampleMixing
from lightning_debug.experiments.loss_experiments import NotJudged
from lightning_debug.experiments.model_runs import Passes
from lightning_debug.probes.model_trace import ModelTrace, Prediction, changed, comparable, place
from lightning_debug.probes.trace import Op

POINTWISE = frozenset(
    """
    binary_cross_entropy binary_cross_entropy_with_logits cross_entropy difference huber_loss l1_loss mse_loss
    nll_loss smooth_l1_loss
    """.split()
)
"""Losses that compare each prediction with its own target."""

DECLARED = re.compile(
    r"Set(?![a-z])|Graph|GNN|GCN|GAT(?![a-z])|Episod|Proto|Relation(?!al)|Matching|Hopfield|BatchFormer|Minibatch|"
    r"Swarm|Particle|NeuralProcess|Listwise|CrossSample|InterSample|Contrast|Crowd|MultiAgent|SAINT"
)
"""Names of classes whose samples are meant to meet."""

MOVES = frozenset({"roll", "flip", "index_select", "getitem", "gather", "take_along_dim"})
"""What puts whole samples in the places of others."""

Effects = dict[int, dict[int, Tensor]]
"""Changed elements: by call, and by the sample that was replaced."""


def sample_mixing(passes: Passes, pl_module: nn.Module, base: ModelTrace) -> SampleMixing:
    """What replacing one sample does to the outputs of the others.

    Args:
        passes: Where to run.
        pl_module: The model.
        base: The batch as it is.

    Raises:
        NotJudged: If passes cannot be compared.
    """
    count = passes.samples
    if base.batch_statistics:
        raise NotJudged("a batch-norm normalises by the batch in eval mode too")
    replaced = sorted({1, 2, count - 1})
    effects, losses = _effects(passes, base, replaced)
    if not any(bool(mask.any()) for masks in effects.values() for mask in masks.values()):
        raise NotJudged("replacing a sample changed no output of a layer")
    judged = {index: masks for index, masks in effects.items() if _has_samples(base.ops[index].shape, count)}
    mixed = [index for index, masks in judged.items() if _overlap(masks) is not None]
    targets = [_mixes_too(item) for item in losses]
    by_loss = [
        item
        for item, symmetrical in zip(losses, targets, strict=True)
        if not symmetrical and _has_samples(tuple(item.scores.shape), count) and _overlap(item.masks) is not None
    ]
    declared = next((name for name in _names(pl_module) if DECLARED.search(name)), "")
    reached = any(bool(mask.any()) for item in losses for mask in item.masks.values())
    known: dict[str, Any] = {"samples": count, "judged": len(judged) + len(losses), "reached": reached}
    if mixed or by_loss:
        masks = judged[mixed[-1]] if mixed else by_loss[-1].masks
        op = base.ops[mixed[-1]] if mixed else by_loss[-1].prediction.made
        pair, both = _overlap(masks) or ((0, 0), torch.zeros(1))
        met, paired, dealt = _first(passes, pair)
        first = place(met)
        owner = dict(pl_module.named_modules()).get(first.module)
        known |= {
            "mixed": len(mixed) + len(by_loss),
            "output": place(op),
            "pair": pair,
            "share": float(both.float().mean()),
            "first": first,
            "batch_first": getattr(owner, "batch_first", False) is True,
            "declared": declared,
            "dealt": dealt,
            "paired": "" if any(bool(mask.any()) for item in losses for mask in item.targets.values()) else paired,
        }
        return SampleMixing(**known)
    for item in losses:
        share = _misaligned(item)
        if share:
            return SampleMixing(**known, misaligned=share, prediction=place(item.prediction.op), declared=declared)
    return SampleMixing(**known)


class _Compared:
    """A prediction, with the elements of it and of its target that changed, by the sample that was replaced."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self.scores = prediction.scores
        self.masks: dict[int, Tensor] = {}
        self.targets: dict[int, Tensor] = {}


def _effects(passes: Passes, base: ModelTrace, replaced: list[int]) -> tuple[Effects, list[_Compared]]:
    found: Effects = {}
    losses = {
        place: _Compared(item)
        for place, item in enumerate(base.predictions)
        if item.kind in POINTWISE and item.target is not None
    }
    for sample in replaced:
        other = passes.run(passes.batch(_without(passes.samples, sample)))
        for op, before, after in comparable(base, other):
            mask = changed(before, after)
            if mask is not None:
                found.setdefault(op.index, {})[sample] = mask
        for position, item in enumerate(other.predictions):
            mine = losses.get(position)
            if mine is None or (item.kind, item.op.line) != (mine.prediction.kind, mine.prediction.op.line):
                continue
            mask = changed(mine.scores, item.scores)
            goal, twin = mine.prediction.target, item.target
            target = None if goal is None or twin is None else changed(goal, twin)
            if mask is not None and target is not None:
                mine.masks[sample], mine.targets[sample] = mask, target
        other.release()
    return found, list(losses.values())


def _without(count: int, sample: int) -> list[int]:
    """Every sample, but the one before in the place of ``sample``: what is sorted by length stays so."""
    return [index - 1 if index == sample else index for index in range(count)]


def _has_samples(shape: tuple[int, ...], count: int) -> bool:
    """Whether samples lie along one dimension, as they do not in a matrix of pairs or in a sum over the batch."""
    return sum(size % count == 0 and size > 0 for size in shape) == 1


def _overlap(masks: dict[int, Tensor]) -> tuple[tuple[int, int], Tensor] | None:
    """Two samples on which the same elements depend, and these elements."""
    for one, two in combinations(sorted(masks), 2):
        both = masks[one] & masks[two]
        if bool(both.any()):
            return (one, two), both
    return None


def _mixes_too(item: _Compared) -> bool:
    """Whether a target is made of several samples as well: both sides are normalised over the batch on purpose."""
    return _overlap(item.targets) is not None


def _misaligned(item: _Compared) -> float:
    """The share of predictions that depend on one sample and are compared with the target of another."""
    masks = item.masks
    if item.prediction.is_classes:
        masks = {sample: mask.any(dim=min(1, mask.ndim - 1)) for sample, mask in masks.items()}
    wrong = None
    for one in masks:
        for two in item.targets:
            if one == two or two not in masks:
                continue
            if masks[one].shape != item.targets[two].shape:
                return 0.0
            both = masks[one] & item.targets[two] & ~masks[two] & ~item.targets[one]
            wrong = both if wrong is None else wrong | both
    return 0.0 if wrong is None else float(wrong.float().mean())


def _first(passes: Passes, pair: tuple[int, int]) -> tuple[Op | None, str, str]:
    """The first call whose output depends on both samples, and two lines.

    The line before it that only exchanged samples; and its own, if it only deals other numbers than the samples' anew.
    """
    try:
        base = passes.run(passes.batch(), every=True)
        masks: Effects = {}
        kept: dict[int, bool] = {}  # of calls that only move rows: whether those are the very same
        for sample in pair:
            other = passes.run(passes.batch(_without(passes.samples, sample)), every=True)
            for op, before, after in comparable(base, other):
                mask = changed(before, after)
                if mask is not None:
                    masks.setdefault(op.index, {})[sample] = mask
                    if op.name in MOVES and not op.module:
                        kept[op.index] = kept.get(op.index, True) and _same_rows(before, after)
            other.release()
    except NotJudged:
        return None, "", ""
    paired = ""
    for index, found in sorted(masks.items()):
        op = base.ops[index]
        if op.name in MOVES and not op.module and all(_elsewhere(mask, sample) for sample, mask in found.items()):
            paired = op.line
        if _has_samples(op.shape, passes.samples) and _overlap(found) is not None:
            return _regrouped(op, masks) or op, paired, op.line if kept.get(index) else ""
    return None, "", ""


def _same_rows(before: Tensor, after: Tensor) -> bool:
    """Whether one holds the very rows of the other, in another order.

    >>> rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> _same_rows(rows, rows.flip(0)), _same_rows(rows, rows.flip(1))
    (True, False)
    """
    if not before.ndim or before.shape != after.shape or not before.is_floating_point():
        return False
    one, two = (sorted(item.reshape(len(item), -1).tolist()) for item in (before, after))
    return one == two


def _regrouped(op: Op, masks: Effects) -> Op | None:
    """The view before a linear layer, which takes each row by itself, if it puts both samples into one row."""
    made = op.inputs[0] if op.name == "linear" and op.inputs else None
    if made is None or made.name not in ("view", "reshape", "flatten"):
        return None
    rows = [mask.reshape(-1, mask.shape[-1]).any(dim=1) for mask in masks.get(made.index, {}).values() if mask.ndim]
    return made if len(rows) == 2 and bool((rows[0] & rows[1]).any()) else None


def _elsewhere(mask: Tensor, sample: int) -> bool:
    """Whether a sample's replacement shows in one row alone, that of another sample.

    >>> _elsewhere(torch.tensor([[False, False], [True, False]]), 0), _elsewhere(torch.tensor([[True], [True]]), 0)
    (True, False)
    """
    rows = mask.reshape(len(mask), -1).any(dim=1).nonzero().flatten() if mask.ndim else mask.new_zeros(0)
    return len(rows) == 1 and int(rows[0]) != sample


def _names(pl_module: nn.Module) -> list[str]:
    kinds = {type(item) for item in pl_module.modules()}
    own = [kind.__name__ for kind in kinds if not kind.__module__.startswith(("torch.", "torchmetrics"))]
    return sorted(own)
