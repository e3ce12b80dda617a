"""Shapes that an operation of the user's own code refused: matmul, cat, view, broadcasting, einsum, metrics."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_layers import features
from lightning_debug.rules._errors_losses import batch_changed, concatenated
from lightning_debug.rules._errors_words import (
    Diagnosis,
    call_of,
    described,
    inputs_of,
    integers,
    named,
    numel,
)

_PRODUCTS = ("matmul", "mm", "bmm", "addmm", "baddbmm", "mv", "dot", "addmv", "linear")
_JOINS = ("cat", "concat", "stack", "vstack", "hstack", "concatenate")
_TELLS = re.compile(
    r"shape|size|dimension|must match|broadcast|invalid for input|expected \d+-?D|Expected \d|equal number of", re.I
)


def free_shapes(error: ErrorRaised) -> Diagnosis | None:
    """What is wrong between the operands of an operation."""
    if error.error not in ("RuntimeError", "ValueError", "IndexError", "AssertionError", "TypeError"):
        return None
    if "view size is not compatible" in error.message:
        fix = f"Use .reshape(...) instead of .view(...) at {error.line}, or .contiguous() before it."
        return Diagnosis(
            "LD101",
            "not-contiguous",
            "view gets a tensor whose values do not lie in order (after transpose or permute).",
            fix,
        )
    name = error.operation
    if name == "einsum":
        return _einsum(error)
    if name in _PRODUCTS and len(error.operands) >= 2:
        return _product(error)
    if (
        name in _JOINS
        or "Sizes of tensors must match except" in error.message
        or "stack expects each tensor" in error.message
    ):
        return _join(error)
    if name in ("view", "reshape", "unflatten", "expand") or "is invalid for input of size" in error.message:
        return _reshape(error)
    if _is_metric(error):
        return _metric(error)
    if (
        "must match the size of tensor b" in error.message
        or "broadcast" in error.message
        or "must match the existing size" in error.message
    ):
        return _broadcast(error)
    if name in (
        "permute",
        "transpose",
        "squeeze",
        "unsqueeze",
        "flatten",
        "sum",
        "mean",
        "softmax",
        "argmax",
        "size",
    ) and _TELLS.search(error.message):
        given = next(iter(inputs_of(error)), None)
        told = f", which has {len(given.shape)} dimensions" if given is not None else ""
        fix = (
            f"Name dimensions that there are: {described(given)}."
            if given is not None
            else "Name dimensions that there are."
        )
        return Diagnosis(
            "LD101", "no-such-dimension", f"{call_of(error)} names a dimension that its input does not have{told}.", fix
        )
    if error.operands and _TELLS.search(error.message) and error.error in ("RuntimeError", "IndexError"):
        if error.phase == "text" and not error.operands:
            return None
        told = "; ".join(described(item) for item in error.operands[:4])
        fix = "Print the shapes before this line and bring them to what the operation takes."
        return Diagnosis(
            "LD101", "shapes", f"{call_of(error)} refuses {told}: {error.message.splitlines()[0][:160]}", fix
        )
    return None


def _product(error: ErrorRaised) -> Diagnosis | None:
    if error.operation in ("addmm", "baddbmm", "addmv"):
        one, two = error.operands[1:3] if len(error.operands) > 2 else error.operands[:2]
    else:
        one, two = error.operands[:2]
    first, second = one.shape, two.shape
    if not first or not second:
        return None
    inner = second[-2] if len(second) > 1 else second[0]
    message = f"{call_of(error)} multiplies {described(one)} by {described(two)}."
    if first[-1] == inner:
        if first[:-2] != second[:-2]:
            fix = f"Give both the same batch: {first[:-2]} and {second[:-2]}."
            return Diagnosis("LD101", "matmul-batch", message, fix)
        return None
    if len(second) > 1 and second[-1] == first[-1]:
        fix = f"Transpose the second: {named(two, 'b')}.transpose(-1, -2)" + (
            f" ({named(two, 'b')}.T)." if len(second) == 2 else "."
        )
        return Diagnosis("LD101", "second-not-transposed", message, fix)
    if two.kind == "parameter" or (len(second) == 2 and len(first) != 2):
        found = features(error, one, inner)
        if found.cause != "in-features":
            return found
    if len(first) > 1 and first[-2] == inner:
        fix = f"Transpose the first: {named(one, 'a')}.transpose(-1, -2)."
        return Diagnosis("LD101", "first-not-transposed", message, fix)
    for start in range(1, len(first) - 1):
        if numel(first[start:]) == inner:
            return Diagnosis(
                "LD101", "flatten-missing", message, f"Flatten the first: {named(one, 'a')}.flatten({start})."
            )
    fix = f"Make the inner sizes equal: {first[-1]} (last of the first) and {inner} (of the second)."
    return Diagnosis("LD101", "inner-sizes", message, fix)


def _join(error: ErrorRaised) -> Diagnosis | None:
    shapes = [item.shape for item in error.operands if item.shape]
    told = "; ".join(described(item) for item in error.operands[:4])
    message = f"{error.operation or 'cat'} at {error.line} joins tensors of unequal sizes: {told}."
    if not shapes:
        fix = "Join along the dimension in which they differ (dim=...), or pad them first."
        return Diagnosis("LD101", "unequal-parts", f"{error.line or 'a join'}: {error.message.splitlines()[0]}", fix)
    first = shapes[0]
    odd = next((shape for shape in shapes if shape != first), first)
    dim = next(
        (
            integers(value)[0]
            for key, value in error.arguments.items()
            if integers(value) and key in ("1", "dim", "axis")
        ),
        0,
    )
    if len(odd) != len(first):
        short = min((first, odd), key=len)
        fix = f"Give both as many dimensions: unsqueeze the one of shape {short}, or flatten the other."
        return Diagnosis("LD101", "unequal-dimensions", message, fix)
    apart = [at for at, (one, two) in enumerate(zip(first, odd, strict=True)) if one != two]
    if error.operation == "stack":
        fix = (
            "Pad them to one size (torch.nn.utils.rnn.pad_sequence), or join with torch.cat along the dimension in"
            " which they differ."
        )
        if len(apart) == 1:
            fix = f"Use torch.cat(..., dim={apart[0]}), or pad them to one size first."
        return Diagnosis("LD101", "unequal-parts", message, fix)
    if len(apart) == 1 and apart[0] != dim % len(first):
        fix = f"Join along the dimension in which they differ: torch.cat(..., dim={apart[0]})."
        return Diagnosis("LD101", "wrong-dimension", message, fix)
    if set(apart) >= {0} and 0 not in (dim,) and len(apart) >= 1 and _same_but_batch(error):
        return None
    left = [at for at in apart if at != dim % len(first)]
    fix = (
        f"Make them equal in dimension {left[0] if left else 0} (pad, crop or interpolate) before joining along {dim}."
    )
    return Diagnosis("LD101", "unequal-parts", message, fix)


def _same_but_batch(error: ErrorRaised) -> bool:
    return False


def _reshape(error: ErrorRaised) -> Diagnosis | None:
    given = next(iter(inputs_of(error)), None)
    found = re.search(r"shape '\[([-\d, ]+)\]' is invalid for input of size (\d+)", error.message)
    wanted = integers(found[1]) if found else ()
    if given is None or not found:
        return None
    name = named(given, "x")
    message = (
        f"{call_of(error)} asks for {wanted},"
        f" {'at least ' if -1 in wanted else ''}{abs(numel([w for w in wanted if w != -1]))} values, of"
        f" {described(given)}, {found[2]} values."
    )
    samples = given.shape[0] if given.shape else 0
    if len(given.shape) > 1 and samples:
        each = numel(given.shape[1:])
        rest = [item for item in wanted[1:] if item != -1]
        if wanted[:1] == (-1,) and len(wanted) == 2:
            fix = (
                f"Each sample has {each} values: {name}.view({name}.size(0), -1) (or flatten(1)), and the next layer"
                f" takes {each} features."
            )
            return Diagnosis("LD101", "features-per-sample", message, fix, measured={"per_sample": each})
        if rest and -1 not in wanted[1:] and numel(rest) != each:
            fix = (
                f"Each sample has {each} values, not {numel(rest)}: use -1 for one dimension, or sizes whose product is"
                f" {each}."
            )
            return Diagnosis("LD101", "features-per-sample", message, fix, measured={"per_sample": each})
    fix = f"Use sizes whose product is {found[2]}, with -1 for the one that follows from the others."
    return Diagnosis("LD101", "number-of-values", message, fix)


def _broadcast(error: ErrorRaised) -> Diagnosis | None:
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
    if len(shorter.shape) == len(longer.shape) - 1:
        for at in range(len(longer.shape)):
            padded = (*shorter.shape[:at], 1, *shorter.shape[at:])
            if all(a == b or 1 in (a, b) for a, b in zip(padded, longer.shape, strict=True)):
                return f"Give the shorter a dimension: {named(shorter, 'b')}.unsqueeze({at})."
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


def _einsum(error: ErrorRaised) -> Diagnosis | None:
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


def _is_metric(error: ErrorRaised) -> bool:
    text = error.message
    return bool(
        re.search(
            r"[Pp]redictions and targets are expected to have the same shape|`preds`|preds.*target.*shape|same"
            r" shape.*preds",
            text,
        )
    )


def _metric(error: ErrorRaised) -> Diagnosis | None:
    told = "; ".join(described(item) for item in error.operands[:3])
    shapes = [item.shape for item in error.operands if item.shape]
    message = f"a metric at {error.line} refuses {told or 'its arguments'}: {error.message.splitlines()[0][:160]}"
    fix = "Give predictions and targets of one shape (N,), or scores (N, C) with targets (N,)."
    if len(shapes) > 1 and numel(shapes[0]) == numel(shapes[1]):
        fix = "Give both one shape: squeeze the dimension of size 1 (preds.squeeze(1), or target.squeeze(1))."
    elif len(shapes) > 1 and len(shapes[0]) == 2 and len(shapes[1]) == 1:
        fix = f"Give the metric num_classes={shapes[0][1]}, or predictions as classes: preds.argmax(dim=1)."
    return Diagnosis("LD101", "metric-shape", message, fix)
