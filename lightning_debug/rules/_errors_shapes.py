"""Shapes that an operation of the user's own code refused: matmul, cat, view, broadcasting, einsum, metrics."""

from __future__ import annotations

import re
from collections.abc import Callable

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.rules._errors_broadcast import broadcasting, einsum, is_metric, metric
from lightning_debug.rules._errors_layers import features
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
    for fits, judge in _JUDGES:
        if fits(error):
            return judge(error)
    if error.operation in _BY_DIMENSION and _TELLS.search(error.message):
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
    left = [str(at) for at in apart if at != dim % len(first)] or ["0"]
    where = f"dimension {left[0]}" if len(left) == 1 else f"dimensions {', '.join(left[:-1])} and {left[-1]}"
    fix = f"Make them equal in {where} (pad, crop or interpolate) before joining along {dim}."
    return Diagnosis("LD101", "unequal-parts", message, fix)


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
        if wanted[:1] == (-1,) and len(wanted) == 2 and given.made_by == "linear" and len(given.shape) > 2:
            last = given.shape[-1]
            fix = f"Give the last layer {wanted[1]} outputs: it makes {last}; or write {name}.view(-1, {last})."
            return Diagnosis("LD101", "last-size", message, fix, measured={"last": last})
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


_BY_DIMENSION = ("permute transpose squeeze unsqueeze flatten sum mean softmax argmax size").split()
_JUDGES: tuple[tuple[Callable[[ErrorRaised], bool], Callable[[ErrorRaised], Diagnosis | None]], ...] = (
    (lambda error: error.operation == "einsum", einsum),
    (lambda error: error.operation in _PRODUCTS and len(error.operands) >= 2, _product),
    (
        lambda error: (
            error.operation in _JOINS
            or bool(re.search("Sizes of tensors must match except|stack expects each tensor", error.message))
        ),
        _join,
    ),
    (
        lambda error: (
            error.operation in ("view", "reshape", "unflatten", "expand")
            or "is invalid for input of size" in error.message
        ),
        _reshape,
    ),
    (is_metric, metric),
    (
        lambda error: bool(re.search("size of tensor b|broadcast|must match the existing size", error.message)),
        broadcasting,
    ),
)
