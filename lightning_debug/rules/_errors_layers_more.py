"""Shapes that a norm, a recurrent layer or an attention refused."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.rules._errors_words import (
    Diagnosis,
    Shape,
    call_of,
    described,
    inputs_of,
    integers,
    numel,
    setting,
)


def normalisation(error: ErrorRaised) -> Diagnosis | None:
    """What is wrong between a norm and its input."""
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


def recurrent(error: ErrorRaised) -> Diagnosis | None:
    """What is wrong between a recurrent layer, its input and its hidden state."""
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
        return _hidden(error, shape, integers(hidden[1]), integers(hidden[2]))
    if "hx should also be" in text or "hx to be" in text or "For unbatched" in text or "For batched" in text:
        fix = "Give the hidden state as (layers x directions, batch, hidden size), for a 3-dimensional input."
        return Diagnosis("LD101", "hidden-size", f"{call_of(error)}: {text}.", fix)
    if not shape or size is None:
        return _features_alone(error)
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


def _features_alone(error: ErrorRaised) -> Diagnosis | None:
    """All that a pasted text tells: two numbers of features."""
    told = re.search(r"equal to input_size\. Expected (\d+), got (\d+)", error.message)
    if told is None:
        return None
    where = f" at {error.line}" if error.line else ""
    message = f"A recurrent layer{where} takes {told[1]} features as the last dimension, and gets {told[2]}."
    fix = (
        f"If the last dimension is time, bring the {told[1]} features to the end: x.transpose(1, 2). If it holds the "
        f"features, make the layer's input_size {told[2]}."
    )
    return Diagnosis("LD101", "input-size", message, fix)


def attention(error: ErrorRaised) -> Diagnosis | None:
    """What is wrong between an attention, its input and its masks."""
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
        turned = _turned_mask(error)
        if turned:
            fix = f"Give it as (batch, keys): key_padding_mask={turned}."
            told_by = f"{call_of(error)} gets a key_padding_mask of shape {told[:2]}, which is (keys, batch)."
            return Diagnosis("LD101", "attention-mask-transposed", told_by, fix)
        fix = "Masks are (batch, keys) as key_padding_mask, and (queries, keys) as attn_mask or is given for each head."
        return Diagnosis(
            "LD101", "attention-mask-shape", f"{call_of(error)} gets a mask that does not fit {told}: {text[:160]}", fix
        )
    features = setting(error, "embed_dim")
    if query is not None and features is not None and query.shape and query.shape[-1] != features:
        fix = f"Make {who} nn.MultiheadAttention({query.shape[-1]}, ...), or project to {features} features before it."
        return Diagnosis(
            "LD101",
            "embedding-size",
            f"{call_of(error)} takes {features} features, and gets {described(query)}.",
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


def _turned_mask(error: ErrorRaised) -> str:
    """What is given for a padding mask, where it is (keys, batch); attention works on (time, batch, ...)."""
    keys = next((item.shape for item in inputs_of(error) if len(item.shape) == 3), ())
    given = re.search(r"key_padding_mask=([\w.]+(?:\[[^\]]*\])?)((?:\(\))?)", error.source)
    if given is None or "key_pad" not in error.message or len(keys) < 2 or keys[0] == keys[1]:
        return ""
    if not any(item.shape == keys[:2] for item in inputs_of(error)):
        return ""
    name, called = given[1], given[2]
    turned = re.fullmatch(r"(.+)\.(?:t|T|mT)", name)
    if turned is not None:
        return turned[1]  # it was turned by mistake
    return f"({name}{called}).T" if called else f"{name}.T"


def _hidden(error: ErrorRaised, shape: Shape, wanted: Shape, got: Shape) -> Diagnosis:
    told = f"{call_of(error)} needs a hidden state of shape {wanted}, and gets {got}."
    batch, first = error.batch_size, error.settings.get("batch_first") == "True"
    if len(wanted) == len(got) == 3 and not first and batch in got and wanted[1] != batch:
        fix = f"Make it nn.{error.module_type}(..., batch_first=True): its input is {shape}, batch first."
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
