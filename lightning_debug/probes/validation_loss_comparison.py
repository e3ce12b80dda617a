"""One batch in training_step and in validation_step: which loss calls belong together, and how they differ."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_debug.evidence.loss_checks import ValidationLossComparison
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.loss_pairs import equal_terms, relation
from lightning_debug.probes.loss_tap import HeardLoss, LossTap

_LOSS_NAME = re.compile(r"(?:^|[^a-z])(?:loss|mae|mse|mean)(?:$|[^a-z])")
_STAGE = re.compile(r"(?:^|(?<=[^a-z]))(?:train|training|val|valid|validation)(?:$|(?=[^a-z]))")
_TOTAL_NAME = re.compile(r"(?:^|[^a-z])(?:sum|summed|total|count|num|per|tot)(?:$|[^a-z])")


UNITS = (10, 100, 1000, 10000)
"""Factors that may be a change of units."""


@dataclass
class StepRun:
    """One step as it was run.

    Args:
        tap: Its loss calls.
        loss: What it returned.
        logged: What it logged, by name.
    """

    tap: LossTap
    loss: Tensor | None
    logged: Mapping[str, Any]

    @property
    def calls(self) -> list[HeardLoss]:
        """The loss calls that what it returned depends on, or else all."""
        found = self.tap.reaching(self.loss) if self.loss is not None else []
        return found or self.tap.heard


def validation_loss_comparison(
    training: StepRun, validation: StepRun, samples: int | None, among: frozenset[int] = frozenset()
) -> ValidationLossComparison:
    """Pairs each loss call of validation with one of training, and says how the pair differs. Reads on the host.

    Args:
        training: The training step's run.
        validation: The validation step's run.
        samples: Samples of the batch.
        among: Numbers of values that a sum may be over, see :func:`sizes`.
    """
    pairs = [
        (first, second, relation(first, second, samples))
        for second in _deduplicated(validation.calls)
        for first in training.calls
    ]
    equal = [(first, second) for first, second, how in pairs if how == "equal"]
    settled = {id(item) for pair in equal for item in pair}
    for first, second, how in pairs:
        if how not in ("equal", "unknown") and not {id(first), id(second)} & settled:
            return _told(how, first, second, samples, key=_key(validation.logged, _value(second)))
    for first, second in equal:
        summed = _summed(first, second, training, validation, samples)
        if summed is not None:
            return summed
    if equal:
        return _told("equal", *equal[0], samples)
    return _summed_by_hand(training, validation, samples, among) or ValidationLossComparison(
        relation="unknown", samples=samples
    )


def sizes(batch: Any) -> frozenset[int]:
    """Sizes of the dimensions of a batch's fields, and how many values a sample has: what a sum may be over.

    Powers of ten are left out: such a factor may be a unit.

    >>> import torch
    >>> sorted(sizes((torch.zeros(8, 12, 3), torch.zeros(8, 10))))
    [3, 8, 12, 36]
    """
    found: set[int] = set()
    for _, tensor in batch_fields(batch):
        found |= {*tensor.shape, math.prod(tensor.shape[1:])}
    return frozenset(size for size in found if size > 1 and size not in UNITS)


def _summed_by_hand(
    training: StepRun, validation: StepRun, samples: int | None, among: frozenset[int]
) -> ValidationLossComparison | None:
    """A loss made by hand that both steps log under one name, and validation so many times as large."""
    before = None if training.loss is None else _number(training.loss.detach())
    if not before:
        return None
    means = {_bare(name) for name, value in training.logged.items() if _is_near(_number(value), before)}
    values = {name: _number(value) for name, value in validation.logged.items()}
    if any(_is_near(value, before) for value in values.values()):
        return None
    for name, value in values.items():
        factor = next((size for size in sorted(among) if _is_near(value, before * size)), None)
        if factor is not None and _bare(name) in means and _is_loss(name):
            return ValidationLossComparison(
                relation="summed",
                samples=samples,
                value=value,
                training_value=before,
                key=name,
                factor=float(factor),
            )
    return None


def _deduplicated(calls: list[HeardLoss]) -> list[HeardLoss]:
    return list({(call.op.line, call.function): call for call in reversed(calls)}.values())[::-1]


def _summed(
    first: HeardLoss, second: HeardLoss, training: StepRun, validation: StepRun, samples: int | None
) -> ValidationLossComparison | None:
    """The pair's values are the same but for how many of them were added up."""
    before = _value(first)
    if first.reduction != "mean" or not equal_terms(first, second) or not before:
        return None
    means = {_bare(name) for name, value in training.logged.items() if _is_near(_number(value), before)}
    names = {
        name: _number(value) for name, value in validation.logged.items() if _is_loss(name) or _bare(name) in means
    }
    count = samples or 0
    counts = {float(first.target.numel())}
    if first.target.numel() != count * count:  # as many outputs as samples: which of them is added up cannot be told
        counts.add(float(count))
    if first.is_classes:
        counts.add(float((first.target != first.options.get("ignore_index", -100)).sum()))
    if any(_is_near(value, before) for value in names.values()):
        return None
    for name, value in names.items():
        for factor in counts:
            if factor > 1 and _is_near(value, before * factor):
                return _told("summed", first, second, samples, key=name, value=value, factor=factor)
            if factor > 1 and factor not in UNITS and _is_near(value, before / factor):
                return _told("divided", first, second, samples, key=name, value=value, factor=factor)
    return None


def _told(how: str, first: HeardLoss, second: HeardLoss, samples: int | None, **more: Any) -> ValidationLossComparison:
    known = {
        "value": _value(second),
        "training_value": _value(first),
        "function": second.function,
        "line": second.op.line,
        "training_function": first.function,
        "training_line": first.op.line,
    }
    return ValidationLossComparison(relation=how, samples=samples, **{**known, **more})


def _key(logged: Mapping[str, Any], value: float | None) -> str:
    for name, other in logged.items():
        number = _number(other)
        if number is not None and value is not None and math.isclose(number, value, rel_tol=1e-5):
            return name
    return ""


def _is_loss(name: str) -> bool:
    """Whether a name is that of a loss which is a mean.

    >>> [_is_loss(name) for name in ("val_loss", "val/loss_epoch", "loss", "val_mae", "val_loss_sum", "glossary")]
    [True, True, True, True, False, False]
    """
    return bool(_LOSS_NAME.search(name.lower())) and not _TOTAL_NAME.search(name.lower())


def _bare(name: str) -> str:
    """A name without its stage.

    >>> [_bare(name) for name in ("train_nll", "val_nll", "nll/valid", "validity")]
    ['_nll', '_nll', 'nll/', 'validity']
    """
    return _STAGE.sub("", name.lower())


def _is_near(value: float | None, other: float) -> bool:
    return value is not None and math.isclose(value, other, rel_tol=1e-4)


def _value(call: HeardLoss) -> float | None:
    return float(call.value.mean()) if call.value.numel() else None


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 and not value.is_complex() else None
    return float(value) if isinstance(value, (int, float)) else None
