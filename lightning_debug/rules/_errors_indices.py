"""Errors of indices: labels and tokens that are out of range."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_types import WHOLE
from lightning_debug.rules._errors_words import Diagnosis, described, inputs_of, named, setting, weights_of

_POSITION = re.compile(r"pos", re.I)


def index_faults(error: ErrorRaised) -> Diagnosis | None:
    """An index into a table, or a label, that is out of range."""
    if error.operation == "embedding" or error.module_type in ("Embedding", "EmbeddingBag"):
        return _embedding(error)
    if error.operation in ("cross_entropy", "nll_loss", "one_hot", "nll_loss_nd"):
        return None if error.operation != "one_hot" else _one_hot(error)
    text = error.message
    if re.search(r"Target -?\d+ is out of bounds", text):
        return _labels_by_text(error)
    if "index out of range in self" in text:
        return _vocabulary_by_text()
    if "device-side assert" in text:
        return _asserted(error)
    if error.operation == "getitem" and "out of bounds" in text:
        index = next((item for item in error.operands[1:] if item.dtype in WHOLE and item.maximum is not None), None)
        size = error.operands[0].shape[0] if error.operands and error.operands[0].shape else None
        if index is not None and size is not None and error.operands[0].kind in ("parameter", "buffer", "attribute"):
            return _out_of_vocabulary(index, size, error.operands[0].name)
    if error.operation.rstrip("_") in ("scatter", "scatter_add", "gather") and "is out of bounds for dim" in text:
        return _picked(error)
    metric = re.search(r"unique values in `(target|preds)` than expected. Expected only (\d+) but found (\d+)", text)
    if metric:
        fix = f"Give the metric num_classes={metric[3]}, or map the labels to 0..{int(metric[2]) - 1}."
        return Diagnosis(
            "LD106", "metric-classes", f"a metric of {metric[2]} classes gets {metric[3]} in {metric[1]}.", fix
        )
    return _confusion(error)


def _confusion(error: ErrorRaised) -> Diagnosis | None:
    """A metric that counts pairs of label and prediction, of which one lies beyond its table of classes."""
    asked = re.search(r"shape '\[(\d+), (\d+)\]' is invalid for input of size (\d+)", error.message)
    if asked is None or asked[1] != asked[2] or not any(item.made_by == "bincount" for item in error.operands):
        return None
    classes, largest = int(asked[1]), (int(asked[3]) - 1) // int(asked[1])
    if largest < classes:
        return None
    where = error.module or "the metric"
    return Diagnosis(
        "LD106",
        "metric-classes",
        f"{where} counts {classes} classes (0..{classes - 1}), and gets the label {largest}.",
        f"Number the labels from 0 to {classes - 1}, such as by y - y.min() where they begin at 1, or give the metric "
        f"and the output {largest + 1} classes.",
        where,
        {"largest": largest, "classes": classes},
    )


def _embedding(error: ErrorRaised) -> Diagnosis | None:
    index = next(iter(inputs_of(error)), None)
    table = next(iter(weights_of(error)), None)
    if index is None or index.dtype not in WHOLE:
        if index is None and "index out of range" in error.message:
            return _vocabulary_by_text()
        return None
    size = table.shape[0] if table is not None and table.shape else setting(error, "num_embeddings")
    if size is None or index.maximum is None or index.minimum is None:
        return None
    if index.minimum >= 0 and index.maximum < size:
        return None
    return _out_of_vocabulary(index, size, error.module or (table.name if table is not None else ""))


def _out_of_vocabulary(index: ErrorOperand, size: int, where: str) -> Diagnosis:
    most, least = index.maximum or 0, index.minimum or 0
    measured = {"largest": most, "smallest": least, "size": size}
    if index.made_by == "arange" or (_POSITION.search(where) and least >= 0):
        message = f"{where or 'the table'} has {size} positions, and the sequence has {most + 1}."
        fix = (
            f"Cut sequences to {size} before they get here (x[:, :{size}]), or make {where or 'the table'} for"
            f" {most + 1} positions."
        )
        return Diagnosis("LD107", "positional-length", message, fix, where, measured)
    if least < 0:
        name = index.name if index.name.isidentifier() or index.kind == "batch" else "x"
        message = f"{described(index)} holds {least}, which is no index into {where or 'the table'} of {size} rows."
        fix = (
            f"If {least} is padding, give it an index of its own: nn.Embedding({size + 1}, ..., padding_idx={size}), "
            f"and {name}.masked_fill({name} < 0, {size}) before it (or pad with {size}, best where the batch is made)."
        )
        return Diagnosis("LD107", "negative-index", message, fix, where, measured)
    message = f"{described(index)} holds {most}, and {where or 'the table'} has {size} rows (0..{size - 1})."
    fix = (
        f"Make it nn.Embedding({most + 1}, ...) (num_embeddings = largest index + 1), or map rarer tokens to one index."
    )
    if least == 1 and most == size:
        fix = (
            f"Count from 0: they run from 1 to {most}, so take 1 away where they are made, or make it "
            f"nn.Embedding({most + 1}, ..., padding_idx=0) if 0 is for padding."
        )
        return Diagnosis("LD107", "index-from-one", message, fix, where, measured)
    return Diagnosis("LD107", "index-too-large", message, fix, where, measured)


def _one_hot(error: ErrorRaised) -> Diagnosis | None:
    index = next(iter(inputs_of(error)), None)
    if index is None or index.maximum is None or "lass values" not in error.message:
        return None
    classes = next((int(value) for value in error.arguments.values() if re.fullmatch(r"\d+", value)), None)
    cause = "label-too-large"
    fix = f"Use num_classes={index.maximum + 1}, or map the labels to 0..{(classes or 1) - 1}."
    if index.minimum is not None and index.minimum < 0:
        fix = "Leave out or map the negative labels before one_hot."
    elif index.minimum is not None and index.minimum >= 1 and index.maximum == classes:
        cause, fix = "labels-from-one", f"Labels begin at 0: {named(index, 'labels')} - 1, best in the dataset."
    return Diagnosis(
        "LD106", cause, f"one_hot for {classes} classes gets labels {index.minimum}..{index.maximum}.", fix
    )


def _picked(error: ErrorRaised) -> Diagnosis | None:
    """Labels of the batch that pick a score, or mark one, by hand."""
    size = re.search(r"with size (\d+)", error.message)
    index = next((item for item in error.operands if item.dtype in WHOLE and item.maximum is not None), None)
    if size is None or index is None or index.minimum is None or index.maximum is None:
        return None
    least, most, classes = index.minimum, index.maximum, int(size[1])
    field = next(
        (item for item in error.fields if item.dtype in WHOLE and (item.minimum, item.maximum) == (least, most)), None
    )
    if field is None:
        return None
    message = f"{error.operation} at {error.line} gets labels {least}..{most} ({field.name}) for {classes} classes"
    measured = {"classes": classes, "smallest": least, "largest": most}
    cause, fix = "label-too-large", f"Make room for {most + 1} classes, or map the labels to 0..{classes - 1}."
    if least < 0:
        cause, fix = "negative-label", f"Leave out or map the negative labels before {error.operation}."
    elif least >= 1 and most == classes:
        cause, fix = "labels-from-one", f"Labels begin at 0: {field.name} - 1, best in the dataset."
    return Diagnosis("LD106", cause, f"{message} (0..{classes - 1}).", fix, measured=measured)


def _labels_by_text(error: ErrorRaised) -> Diagnosis:
    label = re.search(r"Target (-?\d+)", error.message)
    fix = (
        "Map the labels to 0..C-1 (y - 1 where they are 1..C), or give the last layer as many outputs as there are"
        " classes."
    )
    return Diagnosis(
        "LD106", "label-too-large", f"the loss gets the label {label[1] if label else ''}, which is no class.", fix
    )


def _vocabulary_by_text() -> Diagnosis:
    fix = (
        "Make num_embeddings at least the largest index + 1, or map rarer tokens to one index; check negative padding."
    )
    return Diagnosis("LD107", "index-too-large", "an embedding gets an index that it has no row for.", fix)


def _asserted(error: ErrorRaised) -> Diagnosis:
    fix = (
        "Run one step on the CPU (accelerator='cpu'), which names the index; CUDA_LAUNCH_BLOCKING=1 gives the right"
        " line."
    )
    if error.module_type in ("Embedding", "EmbeddingBag"):
        return Diagnosis("LD107", "device-assert", f"an index of {error.module} is out of its table on the GPU.", fix)
    return Diagnosis("LD106", "device-assert", "an index (most often a class label) is out of range on the GPU.", fix)
