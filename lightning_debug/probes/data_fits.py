"""Predictions beside their targets, where a step compares them."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor

from lightning_debug.evidence.data_values import ClassFit, RegressionFit
from lightning_debug.probes.trace import RESHAPES, Call, tensors

REGRESSION = frozenset({"mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "gaussian_nll_loss"})
CLASSIFICATION = frozenset({"cross_entropy", "nll_loss"})
SQUARES = frozenset({"pow", "square", "abs"})
"""What makes a distance of a difference."""

KEEPS = RESHAPES | {"to", "float", "double"}
"""What leaves the values of a target as they are."""

MOST_CLASSES = 1000
MOST_PAIRED = 128
"""So many classes are compared each with each."""


class Comparisons:
    """Is shown the calls of a step, and keeps what they compare.

    Args:
        stage: ``"train"`` or ``"validate"``.
    """

    def __init__(self, stage: str) -> None:
        self.fits: list[RegressionFit] = []
        self.classes: list[ClassFit] = []
        self._stage = stage
        self._given: list[Tensor] = []
        self._compared: list[bool] = []  # whether each target was the labels as they were given
        self._targets: dict[int, weakref.ref[Tensor]] = {}
        self._apart: dict[int, tuple[weakref.ref[Tensor], Tensor, Tensor]] = {}

    @property
    def unchanged(self) -> bool:
        """Whether losses were seen, and each compared the labels as they were given."""
        return bool(self._compared) and all(self._compared)

    def note(self, target: Tensor, *, given: bool = False) -> None:
        """Takes a tensor for labels; ``given``: for those of the batch, as a whole."""
        if given:
            self._given.append(target)
        self._targets[id(target)] = weakref.ref(target)

    def forget(self) -> None:
        """Lets go of the step's tensors."""
        self._targets, self._apart, self._given = {}, {}, []

    def look(self, call: Call) -> None:
        """Reads one call: a loss function, or a difference from labels that is squared."""
        name = call.op.name
        if name in REGRESSION or name in CLASSIFICATION:
            self._compared.append(self._is_given(call.argument(1, "target")))
        if name in REGRESSION:
            self._regression(call, call.argument(0, "input"), call.argument(1, "target"))
        elif name in CLASSIFICATION:
            self._classification(call)
        elif name in KEEPS:
            if self._is_target(next(tensors(call.arguments), None)):
                for output in tensors(call.output):
                    self.note(output)
        elif name in ("sub", "rsub"):
            self._difference(call)
        elif name in SQUARES:
            operand = call.argument(0, "input")
            known = self._apart.pop(id(operand), None)
            if known is not None and known[0]() is operand:
                self._regression(call, known[1], known[2])

    def _is_target(self, item: Any) -> bool:
        known = self._targets.get(id(item))
        return known is not None and known() is item

    def _is_given(self, item: Any) -> bool:
        """Whether a target holds the values of labels in their order, whatever its shape and type."""
        return isinstance(item, Tensor) and any(
            item.numel() == given.numel() and bool((item.reshape(-1) == given.reshape(-1).to(item.device)).all())
            for given in self._given
        )

    def _difference(self, call: Call) -> None:
        operands = list(tensors(call.arguments))
        if len(operands) != 2 or not isinstance(call.output, Tensor) or operands[0].shape != operands[1].shape:
            return
        for target, prediction in (operands, operands[::-1]):
            if self._is_target(target) and target.is_floating_point() and prediction.grad_fn is not None:
                self._apart[id(call.output)] = weakref.ref(call.output), prediction, target

    def _regression(self, call: Call, prediction: Any, target: Any) -> None:
        if not (isinstance(prediction, Tensor) and isinstance(target, Tensor)) or target.requires_grad:
            return
        if not prediction.requires_grad and self._stage == "train":
            return
        if not prediction.numel() or not target.numel() or len(self.fits) >= 4:
            return
        aligned = prediction.shape == target.shape
        first, second = (item.detach().reshape(-1)[:65536].double().cpu() for item in (prediction, target))
        self.fits.append(
            RegressionFit(
                stage=self._stage,
                function="difference" if call.op.name in SQUARES else call.op.name,
                line=call.op.line,
                elements=target.numel(),
                target_mean=float(second.mean()),
                target_deviation=float(second.std(unbiased=False)),
                prediction_mean=float(first.mean()),
                prediction_deviation=float(first.std(unbiased=False)),
                error=float((first - second).square().mean()) if aligned else math.nan,
                aligned=aligned,
            )
        )

    def _classification(self, call: Call) -> None:
        scores, target = call.argument(0, "input"), call.argument(1, "target")
        if not (isinstance(scores, Tensor) and isinstance(target, Tensor)) or scores.ndim < 1 or len(self.classes) >= 4:
            return
        plain = scores.ndim == 2 and target.ndim == 1 and not target.is_floating_point()
        units = scores.shape[1] if scores.ndim > 1 else scores.shape[0]
        ignored = call.keywords.get("ignore_index", -100)
        known: dict[str, Any] = {}
        if plain and units <= MOST_CLASSES:
            truth, guess = target.detach().cpu(), scores.detach().argmax(1).cpu()
            kept = (truth >= 0) & (truth < units) & (truth != ignored)
            truth, guess = truth[kept], guess[kept]
            for name, values in (("true", truth), ("predicted", guess), ("hits", truth[truth == guess])):
                known[name] = tuple(torch.bincount(values, minlength=units).tolist())
            if self._stage == "validate" and units <= MOST_PAIRED:
                table = torch.bincount(guess * units + truth, minlength=units**2).view(units, units)
                known["beside"] = tuple(zip(table.argmax(1).tolist(), table.amax(1).tolist(), strict=True))
        self.classes.append(
            ClassFit(
                stage=self._stage,
                function=call.op.name,
                line=call.op.line,
                units=units,
                ignored=int(ignored),
                weighted=call.keywords.get("weight") is not None,
                plain=plain,
                **known,
            )
        )
