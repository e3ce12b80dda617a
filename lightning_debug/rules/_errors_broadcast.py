"""Shapes that broadcasting, einsum or a metric refused."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_losses import batch_changed, concatenated
from lightning_debug.rules._errors_words import (
    Diagnosis,
    call_of,
    described,
    named,
    numel,
)


def broadcasting(error: ErrorRaised) -> Diagnosis | None:
    """Two tensors that do not broadcast."""
    shaped = [item for item in error.operands if item.shape]
    if len(shaped) < 2:
        fix = (
            "Bring both to shapes that are equal, or 1, in every dimension counted from the end (unsqueeze, transpose)."
        )
        return Diagnosis(
            "LD101", "sizes-do-not-broadcast", f"{error.line or 'an operation'}: {error.message.splitlines()[0]}", fix
        )
    one, two = shaped[:2]
    message = f"{call_of(error)} combines {described(one)} and {described(two)}, which do not broadcast."
    position = next((item for item in shaped if item.kind in ("parameter", "buffer", "attribute")), None)
    other = two if position is one else one
    if position is not None and len(position.shape) >= 2 and len(other.shape) >= 2:
        apart = [
            at
            for at in range(-min(len(position.shape), len(other.shape)), 0)
            if position.shape[at] != other.shape[at] and position.shape[at] != 1
        ]
        if apart == [-2] and other.shape[-2] > position.shape[-2]:
            fix = (
                f"Make {position.name} for {other.shape[-2]} positions (it has {position.shape[-2]}), or cut sequences"
                f" to {position.shape[-2]}."
            )
            return Diagnosis("LD101", "positional-length", message, fix, position.name)
        if apart == [-2]:
            fix = (
                f"Take as many positions as there are: {position.name}[..., :{named(other, 'x')}.size(-2), :] (it has"
                f" {position.shape[-2]}, the sequence {other.shape[-2]})."
            )
            return Diagnosis("LD101", "positional-length", message, fix, position.name)
    rows = batch_changed(error, one.shape[0], error.batch_size) or batch_changed(error, two.shape[0], error.batch_size)
    if rows is not None and error.batch_size and error.batch_size in (one.shape[0], two.shape[0]):
        now = one.shape[0] if one.shape[0] != error.batch_size else two.shape[0]
        return concatenated(error, rows, now, error.batch_size)
    fix = _aligned(one, two)
    return Diagnosis("LD101", "sizes-do-not-broadcast", message, fix)


def _aligned(one: ErrorOperand, two: ErrorOperand) -> str:
    longer, shorter = (one, two) if len(one.shape) >= len(two.shape) else (two, one)
    if len(shorter.shape) == 1 and len(longer.shape) > 1 and shorter.shape[0] == longer.shape[0]:
        ones = ", None" * (len(longer.shape) - 1)
        return f"Give the shorter its missing dimensions: {named(shorter, 'b')}[:{ones}]."
    if len(shorter.shape) == len(longer.shape) - 1 and (fix := _one_dimension(longer, shorter)):
        return fix
    if len(one.shape) == len(two.shape) and sorted(one.shape) == sorted(two.shape):
        apart = [at for at, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b]
        if len(apart) == 2:
            return f"Swap two dimensions of one: {named(two, 'b')}.transpose({apart[0]}, {apart[1]})."
    if len(one.shape) == len(two.shape):
        apart = [at for at, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b and 1 not in (a, b)]
        if apart:
            return (
                f"Make both of one size in dimension {apart[0]}: {one.shape[apart[0]]} and {two.shape[apart[0]]} (a"
                " projection, padding or a crop)."
            )
    return "Bring both to shapes that are equal, or 1, in every dimension counted from the end (unsqueeze, transpose)."


def _one_dimension(longer: ErrorOperand, shorter: ErrorOperand) -> str:
    """The edit where one has a dimension more than the other, which is spare or which the other lacks."""
    for at, size in enumerate(longer.shape):
        if size == 1 and longer.shape[:at] + longer.shape[at + 1 :] == shorter.shape:
            return f"Drop the dimension of size 1: {named(longer, 'a')}.squeeze({at - len(longer.shape)})."
    for at in range(len(longer.shape)):
        padded = (*shorter.shape[:at], 1, *shorter.shape[at:])
        if all(a == b or 1 in (a, b) for a, b in zip(padded, longer.shape, strict=True)):
            return f"Give the shorter a dimension: {named(shorter, 'b')}.unsqueeze({at})."
    return ""


def einsum(error: ErrorRaised) -> Diagnosis | None:
    """Letters of an equation that do not fit the operands."""
    equation = next(
        (
            value
            for value in error.arguments.values()
            if re.fullmatch(r"[\w\s,.]+(->[\w\s.]*)?", value) and "," in value
        ),
        "",
    )
    told = "; ".join(described(item) for item in error.operands[:3])
    message = f"einsum {equation!r} at {error.line} gets {told}."
    terms = equation.partition("->")[0].replace(" ", "").split(",")
    seen: dict[str, int] = {}
    for term, item in zip(terms, error.operands, strict=False):
        if "." in term:
            continue
        if len(term) != len(item.shape):
            fix = (
                f"{term!r} names {len(term)} dimensions, and {named(item, 'its operand')} has {len(item.shape)}: add or"
                " remove a letter."
            )
            return Diagnosis("LD101", "einsum-dimensions", message, fix)
    for term, item in zip(terms, error.operands, strict=False):
        for letter, size in zip(term, item.shape, strict=False):
            if seen.setdefault(letter, size) != size and 1 not in (size, seen[letter]):
                fix = (
                    f"{letter!r} is {seen[letter]} in one operand and {size} in {named(item, 'the other')}: give it the"
                    f" letters of its dimensions, {item.shape}."
                )
                return Diagnosis("LD101", "einsum-sizes", message, fix, measured={"letter": letter})
    return (
        Diagnosis("LD101", "einsum", message, "Name each dimension by one letter, of one size throughout.")
        if error.operands
        else None
    )


def is_metric(error: ErrorRaised) -> bool:
    """Whether a metric refused its arguments."""
    text = error.message
    return bool(
        re.search(
            r"[Pp]redictions and targets are expected to have the same shape|`preds`|preds.*target.*shape|same"
            r" shape.*preds",
            text,
        )
    )


def metric(error: ErrorRaised) -> Diagnosis | None:
    """What a metric refused."""
    told = "; ".join(described(item) for item in error.operands[:3])
    shapes = [item.shape for item in error.operands if item.shape]
    message = f"a metric at {error.line} refuses {told or 'its arguments'}: {error.message.splitlines()[0][:160]}"
    fix = "Give predictions and targets of one shape (N,), or scores (N, C) with targets (N,)."
    if len(shapes) > 1 and numel(shapes[0]) == numel(shapes[1]):
        fix = "Give both one shape: squeeze the dimension of size 1 (preds.squeeze(1), or target.squeeze(1))."
    elif len(shapes) > 1 and len(shapes[0]) == 2 and len(shapes[1]) == 1:
        fix = f"Give the metric num_classes={shapes[0][1]}, or predictions as classes: preds.argmax(dim=1)."
        if error.module_type.startswith("Multilabel"):  # it wants a mark for each label of each sample
            kind = error.module_type.replace("Multilabel", "Multiclass")
            fix = (
                f"For one class a sample use {kind}(num_classes={shapes[0][1]}), which takes scores and class indices."
            )
        elif error.module_type.startswith("Binary"):
            kind = error.module_type.replace("Binary", "Multiclass")
            fix = f"For {shapes[0][1]} classes use {kind}(num_classes={shapes[0][1]})."
    return Diagnosis("LD101", "metric-shape", message, fix)
