"""Shapes that a layer refused: linear, convolution, normalisation, recurrent, attention."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_layers_more import attention, normalisation, recurrent
from lightning_debug.rules._errors_words import (
    Diagnosis,
    Shape,
    call_of,
    described,
    inputs_of,
    integers,
    layer,
    named,
    numel,
    setting,
    weights_of,
)

_CONV = re.compile(r"^conv(_transpose)?([123])d$|^Conv(Transpose)?([123])d$")
_NORMS = ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")
_RECURRENT = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
_ATTENTION = ("multi_head_attention_forward", "MultiheadAttention", "scaled_dot_product_attention")


def layer_shapes(error: ErrorRaised) -> Diagnosis | None:
    """What is wrong between a layer and its input."""
    if error.error not in ("RuntimeError", "ValueError", "AssertionError", "IndexError", "TypeError"):
        return None
    name = error.operation
    if name == "linear" or (error.module_type == "Linear" and name in ("Linear", "addmm", "matmul")):
        return _linear(error)
    if _CONV.match(name):
        return _convolution(error)
    if name in _NORMS or "Norm" in error.module_type:
        return normalisation(error)
    if (
        error.module_type in _RECURRENT
        or name.upper() in _RECURRENT
        or name.lower() in ("lstm", "gru", "rnn_tanh", "rnn_relu")
        or "must be equal to input_size" in error.message
    ):
        return recurrent(error)
    if name in _ATTENTION or error.module_type in (
        "MultiheadAttention",
        "TransformerEncoderLayer",
        "TransformerEncoder",
    ):
        return attention(error)
    if "pool" in name or "Pool" in error.module_type:
        return _pooling(error)
    return None


def _pair(error: ErrorRaised) -> tuple[ErrorOperand | None, ErrorOperand | None]:
    weights = weights_of(error)
    weight = next((item for item in error.operands if item.argument == "weight"), weights[0] if weights else None)
    given = next((item for item in error.operands if item is not weight), None)
    return given, weight


def _linear(error: ErrorRaised) -> Diagnosis | None:
    given, weight = _pair(error)
    wanted = setting(error, "in_features")
    if weight is not None and len(weight.shape) == 2:
        wanted = weight.shape[1]
    if given is None or wanted is None or not given.shape or given.shape[-1] == wanted:
        return None
    return features(error, given, wanted)


def features(error: ErrorRaised, given: ErrorOperand, wanted: int) -> Diagnosis:
    """The last dimension is not as long as a matrix wants it."""
    shape, name = given.shape, named(given, "x")
    who = error.module or "the layer"
    message = f"{call_of(error)} takes {wanted} features, and gets {described(given)}."
    measured = {"wanted": wanted, "given": shape[-1]}
    folded = len(shape) == 2 and not given.name and not given.kind and wanted > shape[-1] and wanted % shape[-1] == 0
    if folded and numel(shape) % wanted == 0:  # as the message has it: leading dimensions folded into one
        fix = f"Flatten before {who} (x.flatten(1), or nn.Flatten() in front of it): that makes {wanted} features."
        return Diagnosis("LD101", "flatten-missing", message, fix, measured=measured)
    for start in range(1, len(shape) - 1):
        if numel(shape[start:]) == wanted:
            flat = f"{name}.flatten({start})" if given.name.isidentifier() else f"x.flatten({start})"
            fix = (
                f"Flatten before {who}: {flat}, or nn.Flatten({start if start > 1 else ''}) in front of it: {shape}"
                f" becomes {(*shape[:start], wanted)}."
            )
            return Diagnosis("LD101", "flatten-missing", message, fix, measured=measured)
    parts = wanted // shape[-1]
    stacked = parts > 1 and wanted == parts * shape[-1] and shape[0] % parts == 0
    if stacked and shape[0] == parts * (error.batch_size or shape[0] // parts) and (joined := _joined(error, given)):
        fix = f"Put the {parts} parts side by side: torch.cat(..., dim=-1) at {joined} makes {wanted} features."
        return Diagnosis("LD101", "concatenated-over-batch", message, fix, joined, measured)
    if wanted in shape[1:-1]:
        at = shape.index(wanted, 1)
        fix = f"Bring the {wanted} features to the end before {who}: x.transpose({at}, {len(shape) - 1})."
        return Diagnosis("LD101", "dimensions-swapped", message, fix, measured=measured)
    if len(shape) == 1 and wanted == 1:
        return Diagnosis(
            "LD101",
            "feature-dimension-missing",
            message,
            f"Give every sample a feature dimension: {name}.unsqueeze(1).",
            measured=measured,
        )
    outputs = setting(error, "out_features")
    fit = (
        f"nn.{error.module_type}({shape[-1]}, {outputs}"
        if outputs is not None and error.module_type == "Linear"
        else f"in_features={shape[-1]}"
    )
    close = ")" if "(" in fit else ""
    picture = len(shape) > 3 and any(word in given.made_by for word in ("conv", "pool"))
    if len(shape) > 2 and (picture or numel(shape[1:]) > wanted) and not _sequence(shape):
        flat = f"nn.Linear({numel(shape[1:])}, {outputs})" if outputs is not None else f"in_features={numel(shape[1:])}"
        fix = f"Flatten before {who} (x.flatten(1)) and make it {flat}: {shape} becomes {(shape[0], numel(shape[1:]))}."
        return Diagnosis("LD101", "flatten-missing", message, fix, measured=measured)
    what = f"{layer(error)}" if error.module_about else "it"
    fix = f"Make {who} {fit}{close} instead of {what}, or change the layer before it to give {wanted} features."
    return Diagnosis("LD101", "in-features", message, fix, error.module, measured)


_JOINS = ("cat", "concat", "concatenate", "vstack")


def _joined(error: ErrorRaised, given: ErrorOperand) -> str:
    """The line where parts were joined along dimension 0: the last join that made so many rows of fewer; else empty."""
    if given.made_by in _JOINS:
        return given.made_at
    rows = [row for row in error.rows if row.operation in _JOINS and row.output[:1] == given.shape[:1]]
    return next((row.line for row in reversed(rows) if all(one[:1] < row.output[:1] for one in row.inputs)), "")


def _sequence(shape: Shape) -> bool:
    return len(shape) == 3


def _convolution(error: ErrorRaised) -> Diagnosis | None:
    given, weight = _pair(error)
    match = _CONV.match(error.operation)
    if given is None or match is None:
        return None
    dimensions = int(match[2] or match[4])
    transposed = bool(match[1] or match[3])
    groups = setting(error, "groups") or next(
        (int(v) for k, v in error.arguments.items() if k == "groups" and v.isdigit()), 1
    )
    wanted = setting(error, "in_channels")
    if wanted is None and weight is not None and len(weight.shape) == dimensions + 2:
        wanted = weight.shape[0] if transposed else weight.shape[1] * groups
    if wanted is None:
        return None
    return _channels(error, given, wanted, dimensions)


def _channels(error: ErrorRaised, given: ErrorOperand, wanted: int, dimensions: int) -> Diagnosis | None:
    """What is wrong with an input of a convolution."""
    shape, who = given.shape, error.module or "the convolution"
    name = given.name if given.name.isidentifier() else "x"
    message = (
        f"{call_of(error)} takes {wanted} channels in dimension 1 of {dimensions + 2}, and gets {described(given)}."
    )
    measured = {"wanted": wanted}
    if "Kernel size can't be greater" in error.message or "Output size is too small" in error.message:
        fix = f"Give {who} padding or a smaller kernel, or pool less before it: its input is only {shape[2:]} large."
        return Diagnosis(
            "LD101",
            "input-too-small",
            f"{call_of(error)} gets {described(given)}, smaller than its kernel.",
            fix,
            measured=measured,
        )
    if len(shape) == dimensions + 2:
        if shape[-1] == wanted and shape[1] != wanted:
            order = (0, dimensions + 1, *range(1, dimensions + 1))
            fix = f"Bring the channels from the end to dimension 1: {name}.permute{order}."
            if dimensions == 1:
                fix = f"Bring the channels to dimension 1: {name}.transpose(1, 2)."
            return Diagnosis("LD101", "channels-last", message, fix, measured=measured)
        if shape[1] != wanted:
            rest = ", ".join(map(str, (setting(error, "out_channels") or "...", *_kernel(error))))
            fix = f"Make {who} nn.{error.module_type or 'Conv2d'}({shape[1]}, {rest}), or give it {wanted} channels."
            return Diagnosis("LD101", "in-channels", message, fix, error.module, measured)
        return None
    return _dimensions(error, given, wanted, dimensions, message)


def _dimensions(error: ErrorRaised, given: ErrorOperand, wanted: int, dimensions: int, message: str) -> Diagnosis:
    """An input of a convolution that has too few or too many dimensions."""
    shape, spatial, measured = given.shape, _letters(dimensions), {"wanted": wanted}
    name = given.name if given.name.isidentifier() else "x"
    if len(shape) == dimensions + 1:
        size = error.batch_size
        if shape[0] == size or (wanted == 1 and shape[0] != 1) or (size is None and wanted == 1):
            if shape[-1] == wanted and wanted > 1:
                fix = f"Bring the batch to (N, C, {spatial}): the channel dimension comes last here."
                return Diagnosis("LD101", "channels-last", message, fix, measured=measured)
            fix = f"Give the images their channel dimension: {name}.unsqueeze(1), which makes them (N, 1, {spatial})."
            return Diagnosis("LD101", "channel-dimension-missing", message, fix, measured=measured)
        fix = f"Give it a batch dimension: {name}.unsqueeze(0), or keep the one there was."
        return Diagnosis("LD101", "batch-dimension-missing", message, fix, measured=measured)
    if len(shape) < dimensions + 1:
        fix = (
            f"Bring the input to (N, {wanted}, {spatial}): {name}.unflatten(1, ({wanted}, ...)) if it is flat, or leave"
            " the flatten before it out."
        )
        return Diagnosis("LD101", "flattened-too-early", message, fix, measured=measured)
    fix = f"Fold the extra dimension into the batch: {name}.flatten(0, 1), and unflatten it after."
    return Diagnosis("LD101", "too-many-dimensions", message, fix, measured=measured)


def _kernel(error: ErrorRaised) -> tuple[int, ...]:
    sizes = integers(error.settings.get("kernel_size", ""))
    return sizes[:1] if sizes else ()


def _letters(dimensions: int) -> str:
    return {1: "L", 2: "H, W", 3: "D, H, W"}[dimensions]


def _pooling(error: ErrorRaised) -> Diagnosis | None:
    given = next(iter(inputs_of(error)), None)
    if given is None:
        return None
    if "too small" in error.message or "Output size" in error.message or "output size" in error.message:
        fix = (
            f"Pool less: {error.module or 'it'} gets {given.shape}; leave it out, use a smaller kernel, or"
            " nn.AdaptiveAvgPool2d(1)."
        )
        return Diagnosis(
            "LD101", "input-too-small", f"{call_of(error)} gets {described(given)}, smaller than its window.", fix
        )
    fix = f"Give {error.module or 'it'} (N, C, ...) of the dimensions that its name says: it gets {given.shape}."
    return Diagnosis("LD101", "pool-dimensions", f"{call_of(error)} gets {described(given)}.", fix)
