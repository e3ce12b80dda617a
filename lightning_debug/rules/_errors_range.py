"""Errors at losses that take what lies in a range: probabilities outside 0..1, variances below 0."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_words import Diagnosis, call_of, described, named

OUTSIDE = re.compile("all elements of (input|target) should be between 0 and 1")

NEGATIVE = re.compile("var has negative entr")

BYTES = 255.0
"""The largest value of a byte."""


def not_probabilities(error: ErrorRaised, target: ErrorOperand | None = None) -> Diagnosis | None:
    """What is outside 0..1, and how it gets there.

    Args:
        error: The exception.
        target: The targets, where they are known.
    """
    which = OUTSIDE.search(error.message)
    operands = error.operands[:1] if which is None or which[1] == "input" or target is None else (target,)
    if re.search("nan", error.message, re.I) or any(item.nan for item in operands):
        return None  # NaN is outside every range: whatever made it is at fault
    if which is not None and which[1] == "target":
        return _targets(error, target)
    fix = (
        "Use F.binary_cross_entropy_with_logits (nn.BCEWithLogitsLoss) on the raw outputs, or apply torch.sigmoid"
        " before."
    )
    return Diagnosis(
        "LD117", "logits-for-probabilities", f"{call_of(error)} gets values outside 0..1: raw outputs.", fix
    )


def negative_variance(error: ErrorRaised) -> Diagnosis:
    """A raw output in the place of a variance."""
    variance = next((item for item in error.operands if item.argument == "var"), None) or (
        error.operands[2] if len(error.operands) > 2 else None
    )
    name = "the output" if variance is None else named(variance, "the output")
    what = "" if variance is None or variance.lowest is None else f" (down to {variance.lowest:.4g})"
    fix = (
        f"Make a variance of the raw output: torch.exp({name}), if the net is to learn its logarithm, or"
        f" F.softplus({name}) + 1e-6."
    )
    message = f"{call_of(error)} gets a variance below 0{what}: a raw output."
    return Diagnosis("LD117", "raw-output-for-variance", message, fix)


def _targets(error: ErrorRaised, target: ErrorOperand | None) -> Diagnosis:
    name = "the target" if target is None else named(target, "the target")
    least, most = (None, None) if target is None else (target.lowest, target.highest)
    what = "" if target is None else f", {described(target)}"
    span = "" if least is None or most is None else f" from {least:.4g} to {most:.4g}"
    return Diagnosis(
        "LD117",
        "targets-outside-probabilities",
        f"{call_of(error)} gets targets outside 0..1{what}{span and ':'}{span}.",
        _into_range(name, least, most),
    )


def _into_range(name: str, least: float | None, most: float | None) -> str:
    other = "For amounts that are no probabilities take F.mse_loss."
    if least is None or most is None:
        return f"Bring {name} to 0..1, best where the dataset makes it. {other}"
    if (least, most) == (-1.0, 1.0):
        return f"If these are two classes, or images of -1..1, map them: ({name} + 1) / 2. {other}"
    if (least, most) == (1.0, 2.0):
        return f"If these are two classes, count them from 0: {name} - 1. {other}"
    if least >= 0:
        whole = BYTES if 16 < most <= BYTES else most
        return (
            f"Divide {name} by the largest value that is possible ({whole:g}?), best where the dataset makes it, and"
            f" inputs likewise. {other}"
        )
    return (
        f"Bring {name} to 0..1: they look standardised, and the loss takes what they were before that, divided by the"
        f" largest value. {other}"
    )
