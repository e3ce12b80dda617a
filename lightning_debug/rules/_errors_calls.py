"""Calls of torch that refuse what they are given in words of their own: packing, bags, CTC, signs of pairs, sizes."""

from __future__ import annotations

import re
from collections.abc import Callable

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_words import Diagnosis, call_of, described, inputs_of, integers, named


def refused_calls(error: ErrorRaised) -> Diagnosis | None:
    """What is wrong with a call that names its condition in the exception."""
    for pattern, judge in _JUDGES:
        if pattern.search(error.message):
            return judge(error)
    return None


def _bag(error: ErrorRaised) -> Diagnosis | None:
    rows = next(iter(inputs_of(error)), None)
    told = described(rows) if rows is not None else "rows of indices"
    if "2D" in error.message:
        fix = (
            "Leave offsets out where rows are padded (and give the layer padding_idx); or give the indices of all "
            "samples one after another, torch.cat(samples), with offsets."
        )
        return Diagnosis(
            "LD101", "offsets-beside-rows", f"{call_of(error)} gets {told}, a row a sample, and offsets as well.", fix
        )
    fix = "Give the place where each sample begins: offsets = torch.tensor([0, *lengths[:-1]]).cumsum(0)."
    return Diagnosis("LD101", "offsets", f"{call_of(error)} gets {told}: {error.message.splitlines()[0][:120]}", fix)


def _packing(error: ErrorRaised) -> Diagnosis | None:
    text = error.message
    if "sorted in decreasing order" in text:
        fix = "Give it enforce_sorted=False: pack_padded_sequence(..., enforce_sorted=False)."
        message = f"the lengths that are packed at {error.line} do not fall from sample to sample."
        return Diagnosis("LD101", "lengths-not-sorted", message, fix)
    if "greater than 0" in text:
        fix = "Leave empty samples out of the dataset, or pack them as one step of padding: lengths.clamp(min=1)."
        return Diagnosis("LD101", "empty-sequence", f"a sample that is packed at {error.line} has the length 0.", fix)
    if "CPU int64" in text:
        fix = "Give whole numbers on the CPU: lengths.cpu() (and .long())."
        message = f"the lengths that are packed at {error.line} are not whole numbers on the CPU."
        return Diagnosis("LD104" if "cuda" in text else "LD105", "lengths-on-device", message, fix)
    sizes = integers(text)
    if len(sizes) >= 2:
        fix = "Pass batch_first=True to pack_padded_sequence if the batch is dimension 0, and one length a sample."
        message = f"pack_padded_sequence at {error.line} gets {sizes[-2]} lengths for a batch of {sizes[-1]}."
        return Diagnosis("LD101", "lengths-of-other-batch", message, fix)
    return None


def _resized(error: ErrorRaised) -> Diagnosis | None:
    given = next(iter(inputs_of(error)), None)
    if given is None:
        return None
    two = re.search(r"output size of (\([\d, ]+\))", error.message)
    wanted = len(integers(two[1])) if two else {"linear": 1, "bilinear": 2, "trilinear": 3}.get(_mode(error), 0)
    have, name = len(given.shape) - 2, given.name if given.name.isidentifier() else "x"
    message = (
        f"{call_of(error)} resizes {wanted} dimensions, and {described(given)} has {have} behind batch and channels."
    )
    if have == wanted - 1:
        fix = (
            f"Give it the channel dimension that is missing: {name}.unsqueeze(1), which makes it (N, 1, ...); "
            ".squeeze(1) takes it away again."
        )
        return Diagnosis("LD101", "channel-dimension-missing", message, fix)
    fix = f"Give one size for each of its {have} dimensions, and a mode for as many (linear, bilinear, trilinear)."
    return Diagnosis("LD101", "sizes-to-resize", message, fix)


def _mode(error: ErrorRaised) -> str:
    return (re.search(r"\b(bilinear|trilinear|linear)\b mode", error.message) or ["", ""])[1]


def _signs(error: ErrorRaised) -> Diagnosis | None:
    """The target of a loss of pairs: one sign a pair."""
    target = next((item for item in reversed(inputs_of(error)) if len(item.shape) == 2 and item.shape[1] == 1), None)
    if target is None or error.operation in ("cross_entropy", "nll_loss"):
        return None
    fix = f"Drop the dimension of size 1: {named(target, 'the target')}.squeeze(1)."
    message = f"{call_of(error)} takes one sign a pair, and gets {described(target)}."
    return Diagnosis("LD101", "target-extra-dimension", message, fix)


def _alignment(error: ErrorRaised) -> Diagnosis | None:
    """CTC: frames first, lengths of each sample."""
    if "ctc_loss" not in error.operation and error.module_type != "CTCLoss":
        return None
    if not inputs_of(error):
        return None
    scores, *rest = inputs_of(error)
    lengths = [item for item in rest[1:] if len(item.shape) == 1]
    name = named(scores, "log_probs")
    if len(scores.shape) == 3 and _turned(scores, lengths, error.batch_size):
        message = f"{call_of(error)} takes log-probabilities (time, batch, classes), and gets {described(scores)}."
        return Diagnosis("LD101", "batch-first", message, f"Bring time to dimension 0: {name}.transpose(0, 1).")
    told = "; ".join(described(item) for item in (scores, *rest))
    fix = "Give log-probabilities (time, batch, classes), and one input length and one target length a sample."
    return Diagnosis("LD101", "lengths", f"{call_of(error)} gets {told}: {error.message.splitlines()[0][:120]}", fix)


def _turned(scores: ErrorOperand, lengths: list[ErrorOperand], size: int | None) -> bool:
    """Whether as many lengths as there are rows in dimension 0, and not in dimension 1, are given."""
    samples: set[int | None] = {item.shape[0] for item in lengths} or {size}
    return samples == {scores.shape[0]} and scores.shape[0] != scores.shape[1]


def _picked(error: ErrorRaised) -> Diagnosis | None:
    """``gather`` of one value a row: the index has a dimension too few."""
    values = inputs_of(error)
    if error.operation not in ("gather", "scatter", "scatter_") or len(values) < 2:
        return None
    index = next((item for item in values[1:] if len(item.shape) == len(values[0].shape) - 1), None)
    if index is None or index.shape != values[0].shape[:-1]:
        return None
    name, last = named(index, "index"), len(index.shape)
    message = f"{call_of(error)} takes an index with as many dimensions as {described(values[0])}: {described(index)}."
    fix = f"Give the index its last dimension: .{error.operation}({last}, {name}.unsqueeze({last}))"
    fix += f".squeeze({last})." if error.operation == "gather" else "."
    return Diagnosis("LD101", "index-dimension-missing", message, fix)


_JUDGES: tuple[tuple[re.Pattern[str], Callable[[ErrorRaised], Diagnosis | None]], ...] = tuple(
    (re.compile(pattern), judge)
    for pattern, judge in (
        (r"offsets has to be|offsets\[0\] has to be", _bag),
        (r"`?lengths`? array must be sorted|Length of all samples has to be|'lengths' argument should be", _packing),
        (r"Expected `len\(lengths\)` to be equal to batch_size", _packing),
        (r"same number of spatial dimensions|mode needs \dD input", _resized),
        (r"Index tensor must have the same number of dimensions", _picked),
        (r"0D or 1D target tensor expected", _signs),
        (r"(input|target)_lengths must be|Expected (input|target)_lengths|Expected tensor to have size", _alignment),
    )
)
