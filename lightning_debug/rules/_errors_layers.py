"""Shapes that a layer refused: linear, convolution, normalisation, recurrent, attention."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
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
        return _normalisation(error)
    if (
        error.module_type in _RECURRENT
        or name.upper() in _RECURRENT
        or name.lower() in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    ):
        return _recurrent(error)
    if name in _ATTENTION or error.module_type in (
        "MultiheadAttention",
        "TransformerEncoderLayer",
        "TransformerEncoder",
    ):
        return _attention(error)
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
    if len(shape) > 2 and numel(shape[1:]) > wanted and not _sequence(error, shape):
        flat = f"nn.Linear({numel(shape[1:])}, {outputs})" if outputs is not None else f"in_features={numel(shape[1:])}"
        fix = f"Flatten before {who} (x.flatten(1)) and make it {flat}: {shape} becomes {(shape[0], numel(shape[1:]))}."
        return Diagnosis("LD101", "flatten-missing", message, fix, measured=measured)
    what = f"{layer(error)}" if error.module_about else "it"
    fix = f"Make {who} {fit}{close} instead of {what}, or change the layer before it to give {wanted} features."
    return Diagnosis("LD101", "in-features", message, fix, error.module, measured)


def _sequence(error: ErrorRaised, shape: Shape) -> bool:
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
    shape, who = given.shape, error.module or "the convolution"
    name = given.name if given.name.isidentifier() else "x"
    message = (
        f"{call_of(error)} takes {wanted} channels in dimension 1 of {dimensions + 2}, and gets {described(given)}."
    )
    measured = {"wanted": wanted}
    spatial = _letters(dimensions)
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


def _normalisation(error: ErrorRaised) -> Diagnosis | None:
    given = next(iter(inputs_of(error)), None)
    text = error.message
    if "more than 1 value per channel" in text or "more than 1 spatial element" in text:
        shape = given.shape if given is not None else integers(text.partition("size")[2])
        name = error.module or "batch-norm"
        fix = (
            "Leave out a last batch of one sample: DataLoader(..., drop_last=True), or use nn.LayerNorm / nn.GroupNorm."
        )
        message = f"{name} gets one value for each channel in training, {shape}: there is no variance of one value."
        return Diagnosis("LD116", "one-value", message, fix, measured={"shape": tuple(shape)})
    if given is None:
        return None
    shape, who = given.shape, error.module or "the norm"
    wanted = setting(error, "num_features") or setting(error, "num_channels")
    message = f"{call_of(error)} gets {described(given)}"
    if error.operation in ("layer_norm", "rms_norm") or error.module_type in ("LayerNorm", "RMSNorm"):
        sizes = integers(error.settings.get("normalized_shape", "") or next(iter(error.arguments.values()), ""))
        fix = f"Make {who} nn.LayerNorm({shape[-1] if shape else '...'})"
        if sizes and sizes[0] in shape[1:-1] and len(sizes) == 1:
            return Diagnosis(
                "LD101",
                "dimensions-swapped",
                f"{message}, and normalises {sizes}.",
                f"Bring the {sizes[0]} features to the end: x.transpose(1, {len(shape) - 1}); or"
                f" {fix[0].lower()}{fix[1:]}.",
            )
        return Diagnosis("LD101", "normalised-shape", f"{message}, and normalises {sizes}.", f"{fix}.", error.module)
    if wanted is None:
        return None
    expected = re.search(r"expected (\d)D(?: or (\d)D)? (?:\([^)]*\) )?input", text) or re.search(
        r"expected (\d)D", text
    )
    if expected and len(shape) not in {int(item) for item in expected.groups() if item}:
        kind = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}.get(len(shape), "BatchNorm1d")
        fix = f"Use nn.{kind}({wanted}) for inputs of {len(shape)} dimensions, or give it (N, {wanted}, ...)."
        return Diagnosis("LD101", "norm-dimensions", f"{message}, of {len(shape)} dimensions.", fix, error.module)
    if len(shape) > 2 and shape[-1] == wanted and shape[1] != wanted:
        fix = (
            f"Bring the {wanted} features to dimension 1 and back: {who}(x.transpose(1, {len(shape) - 1})).transpose(1,"
            f" {len(shape) - 1})."
        )
        return Diagnosis("LD101", "dimensions-swapped", f"{message}, and takes {wanted} features in dimension 1.", fix)
    if len(shape) > 1 and shape[1] != wanted:
        fix = f"Make {who} nn.{error.module_type}({shape[1]}), or change the layer before it to give {wanted}."
        return Diagnosis("LD101", "norm-features", f"{message}, and takes {wanted} features.", fix, error.module)
    return None


def _recurrent(error: ErrorRaised) -> Diagnosis | None:
    given = next((item for item in inputs_of(error)), None)
    size, first = setting(error, "input_size"), error.settings.get("batch_first") == "True"
    kind, who = error.module_type, error.module or "the recurrent layer"
    text = error.message
    shape = given.shape if given is not None else ()
    layout = f"(N, T, {size})" if first else f"(T, N, {size})"
    message = (
        f"{call_of(error)} takes {layout}, and gets {described(given) if given is not None else 'something else'}."
    )
    hidden = re.search(r"Expected hidden(?:\[\d\])? size [\[(]([\d, ]+)[\])], got [\[(]([\d, ]+)[\])]", text)
    if hidden:
        wanted, got = integers(hidden[1]), integers(hidden[2])
        told = f"{call_of(error)} needs a hidden state of shape {wanted}, and gets {got}."
        batch = error.batch_size
        if len(wanted) == len(got) == 3 and not first and batch in got and wanted[1] != batch:
            fix = f"Make it nn.{kind}(..., batch_first=True): its input is {shape}, batch first."
            return Diagnosis("LD101", "batch-first-missing", told, fix, error.module)
        if len(wanted) == len(got) and wanted[:-2] == got[:-2] and wanted[-1] == got[-1]:
            return Diagnosis(
                "LD101",
                "hidden-size",
                told,
                f"Make it torch.zeros({', '.join(map(str, wanted))}) (batch of x: x.size(0)).",
            )
        return Diagnosis(
            "LD101",
            "hidden-size",
            told,
            f"Make it torch.zeros({', '.join(map(str, wanted))}): (layers x directions, batch, hidden size).",
        )
    if "hx should also be" in text or "hx to be" in text or "For unbatched" in text or "For batched" in text:
        fix = "Give the hidden state as (layers x directions, batch, hidden size), for a 3-dimensional input."
        return Diagnosis("LD101", "hidden-size", f"{call_of(error)}: {text}.", fix)
    if not shape or size is None:
        return None
    if shape[-1] != size:
        if len(shape) == 2 and size == 1:  # (batch, time): read as one sequence without a batch
            fix = f"Give every time step its feature dimension: x.unsqueeze(-1), which makes {(*shape, 1)}."
            return Diagnosis("LD101", "feature-dimension-missing", message, fix)
        if size in shape[1:-1] or (size in shape[:-1] and len(shape) == 3 and shape[0] != error.batch_size):
            at = shape.index(size, 1) if size in shape[1:] else 0
            fix = (
                f"Bring the {size} features to the end: x.transpose({at}, {len(shape) - 1}), which makes time and"
                " features change places."
            )
            return Diagnosis("LD101", "dimensions-swapped", message, fix)
        if len(shape) > 3:
            fix = (
                f"Flatten each time step: x.flatten(2), and make it nn.{kind}({numel(shape[2:])},"
                f" {setting(error, 'hidden_size')}, ...)."
            )
            return Diagnosis("LD101", "flatten-missing", message, fix)
        fix = f"Make {who} nn.{kind}({shape[-1]}, {setting(error, 'hidden_size')}, ...), or give it {size} features."
        return Diagnosis("LD101", "input-size", message, fix, error.module)
    if len(shape) > 3:
        return Diagnosis(
            "LD101",
            "too-many-dimensions",
            message,
            "Give it three dimensions: fold the others into batch or time (flatten).",
        )
    return None


def _attention(error: ErrorRaised) -> Diagnosis | None:
    text, who = error.message, error.module or "the attention"
    query = next(iter(inputs_of(error)), None)
    mask = re.search(r"attn_mask is (?:torch\.Size\()?[\[(]([\d, ]+)[\])]\)?, but should be [\[(]([\d, ]+)[\])]", text)
    if mask:
        got, wanted = integers(mask[1]), integers(mask[2])
        fix = f"Make the mask of shape {wanted} (targets, sources); pass what is (batch, sources) as key_padding_mask."
        return Diagnosis(
            "LD101", "attention-mask-shape", f"{call_of(error)} gets an attn_mask {got}, and needs {wanted}.", fix
        )
    if "mask" in text:
        told = query.shape if query is not None else ()
        batch_first = error.settings.get("batch_first") == "True"
        if (
            "key_pad" in text
            and not batch_first
            and query is not None
            and len(told) == 3
            and told[0] == error.batch_size
        ):
            fix = f"Make it nn.MultiheadAttention(..., batch_first=True): its input is {told}, batch first."
            return Diagnosis(
                "LD101",
                "batch-first-missing",
                f"{call_of(error)} reads {told} as (time, batch, features): {text}.",
                fix,
                error.module,
            )
        fix = "Masks are (batch, keys) as key_padding_mask, and (queries, keys) as attn_mask or is given for each head."
        return Diagnosis(
            "LD101", "attention-mask-shape", f"{call_of(error)} gets a mask that does not fit {told}: {text[:160]}", fix
        )
    wanted = setting(error, "embed_dim")
    if query is not None and wanted is not None and query.shape and query.shape[-1] != wanted:
        fix = f"Make {who} nn.MultiheadAttention({query.shape[-1]}, ...), or project to {wanted} features before it."
        return Diagnosis(
            "LD101",
            "embedding-size",
            f"{call_of(error)} takes {wanted} features, and gets {described(query)}.",
            fix,
            error.module,
        )
    others = [item for item in inputs_of(error) if len(item.shape) >= 2]
    if len(others) > 1 and error.operation == "scaled_dot_product_attention":
        shapes = ", ".join(str(item.shape) for item in others)
        if len(others) > 3:
            fix = (
                f"Make the mask broadcast to (batch, heads, {others[0].shape[-2]}, {others[1].shape[-2]}): mask[:,"
                " None, None, :] for a padding mask."
            )
            return Diagnosis("LD101", "attention-mask-shape", f"{call_of(error)} gets {shapes}.", fix)
        return Diagnosis(
            "LD101",
            "attention-shapes",
            f"{call_of(error)} gets {shapes}.",
            "Give query, key and value (batch, heads, time, features) with equal batch, heads and features.",
        )
    return None


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
