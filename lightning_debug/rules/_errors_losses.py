"""Errors at a loss: targets of the wrong shape, dtype, range or number."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised, ShapeRow
from lightning_debug.rules._errors_counts import constant_target, turned_input
from lightning_debug.rules._errors_range import NEGATIVE, OUTSIDE, negative_variance, not_probabilities
from lightning_debug.rules._errors_types import REAL, WHOLE, below_zero, loss_weight
from lightning_debug.rules._errors_words import Diagnosis, call_of, described, named, numel

CLASSES = ("cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss")
CASTS = ("float", "double", "half", "bfloat16")
"""Methods that make a tensor real."""
PAIRS = (
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "BCELoss", "BCEWithLogitsLoss", "mse_loss"),
    *("l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"),
    "poisson_nll_loss",
)


def loss_faults(error: ErrorRaised) -> Diagnosis | None:
    """What is wrong between prediction and target."""
    if error.operation in CLASSES and len(error.operands) >= 2:
        scores, target = error.operands[0], _target(error)
        found = loss_weight(error) or constant_target(error, scores, target)
        return found or _classes(error, scores, target) or _scores_against_labels(error, scores, target)
    if error.operation in PAIRS and len(error.operands) >= 2:
        pair = error.operands[0], _target(error)
        return constant_target(error, *pair) or _pairs(error, *pair)
    if NEGATIVE.search(error.message):
        return negative_variance(error)
    if OUTSIDE.search(error.message):
        return not_probabilities(error)
    return None


def _target(error: ErrorRaised) -> ErrorOperand:
    return next((item for item in error.operands[1:] if item.argument == "target"), error.operands[1])


def _classes(error: ErrorRaised, scores: ErrorOperand, target: ErrorOperand) -> Diagnosis | None:
    """The kind of target: class indices, one-hot rows, probabilities."""
    given, wanted = scores.shape, target.shape
    name = named(target, "the target")
    if target.dtype in WHOLE and len(wanted) == len(given) and len(given) >= 2:
        if wanted == given:
            fix = f"Give class indices: {name}.argmax(dim=1); or probabilities: {name}.float()."
            return Diagnosis(
                "LD101",
                "one-hot-target",
                f"{call_of(error)} gets one-hot targets of whole numbers, {described(target)}.",
                fix,
            )
        if wanted[1] == 1 and wanted[:1] == given[:1]:
            fix = f"Drop the dimension of size 1: {name}.squeeze(1)."
            return Diagnosis(
                "LD101",
                "target-extra-dimension",
                f"{call_of(error)} gets targets with a dimension too many, {described(target)}.",
                fix,
            )
        if len(given) == 2 and wanted[:1] == given[:1]:
            fix = (
                f"Give one class index a sample ({name}.argmax(dim=1) of a one-hot target); for several labels a sample"
                " use binary_cross_entropy_with_logits."
            )
            return Diagnosis(
                "LD101",
                "one-hot-target",
                f"{call_of(error)} gets {wanted[1]} targets a sample for scores {given}.",
                fix,
            )
    if target.dtype in REAL and len(wanted) == len(given) - 1 and wanted[:1] == given[:1]:
        fix = f"Class indices are whole numbers: {name}.long(), best where the dataset makes them (dtype=torch.long)."
        if target.made_by in CASTS and target.made_at:
            fix = f"Leave out the {target.made_by}() at {target.made_at}: class indices are whole numbers."
        return Diagnosis(
            "LD105", "float-labels", f"{call_of(error)} gets class indices as {target.dtype}: {described(target)}.", fix
        )
    if target.dtype in REAL and len(wanted) == len(given) >= 2 and wanted[1] == 1 and given[1] > 1:
        fix = f"Class indices are whole numbers without a dimension of their own: {name}.squeeze(1).long()."
        return Diagnosis(
            "LD105", "float-labels", f"{call_of(error)} gets class indices as {target.dtype} of shape {wanted}.", fix
        )
    if (
        target.dtype in WHOLE
        and target.dtype not in ("int64", "uint8")
        and re.search(r"not implemented|dtype", error.message)
    ):
        fix = f"Class indices are int64: {name}.long()."
        return Diagnosis("LD105", "label-dtype", f"{call_of(error)} gets class indices as {target.dtype}.", fix)
    return None


def _scores_against_labels(error: ErrorRaised, scores: ErrorOperand, target: ErrorOperand) -> Diagnosis | None:
    """The range, the number and the layout of labels."""
    given, wanted = scores.shape, target.shape
    found = _class_range(error, scores, target)
    if found is not None:
        return found
    if len(given) == 1 and given == wanted:
        fix = (
            "For one output a sample use F.binary_cross_entropy_with_logits(scores, y.float()); else give the last"
            " layer one output a class."
        )
        return Diagnosis(
            "LD101", "one-output", f"{call_of(error)} gets one score a sample, {given}, and needs one a class.", fix
        )
    if len(given) >= 3 and len(wanted) == len(given) - 1 and (given[0], *given[1:-1]) == wanted:
        fix = (
            f"Classes belong in dimension 1: {named(scores, 'logits')}.transpose(1, {len(given) - 1}); or flatten both:"
            " logits.flatten(0, 1), y.flatten()."
        )
        return Diagnosis(
            "LD101", "classes-not-in-dimension-1", f"{call_of(error)} gets scores {given} for targets {wanted}.", fix
        )
    if given[:1] != wanted[:1]:
        return _counts(error, scores, target)
    weight = next((item for item in error.operands[2:] if item.argument == "weight" or item.shape), None)
    if weight is not None and len(given) > 1 and weight.shape != (given[1],):
        fix = f"Give one weight for each of the {given[1]} classes."
        return Diagnosis(
            "LD101",
            "class-weights",
            f"{call_of(error)} gets {numel(weight.shape)} class weights for {given[1]} classes.",
            fix,
        )
    fix = f"Bring both to scores (N, C, ...) and targets (N, ...): they are {given} and {wanted}."
    return Diagnosis("LD101", "target-shape", f"{call_of(error)} gets scores {given} and targets {wanted}.", fix)


def _class_range(error: ErrorRaised, scores: ErrorOperand, target: ErrorOperand) -> Diagnosis | None:
    if target.dtype not in WHOLE or target.maximum is None or target.minimum is None or not scores.shape:
        return None
    classes = scores.shape[1 if len(scores.shape) > 1 else 0]
    if not re.search(r"out of (bounds|range)|device-side", error.message):
        return None
    name, least, most = named(target, "the target"), target.minimum, target.maximum
    measured = {"classes": classes, "smallest": least, "largest": most}
    message = f"{call_of(error)} gets labels {least}..{most} ({name}) for {classes} classes (0..{classes - 1})."
    if least < 0 and most < classes:
        return Diagnosis("LD106", "negative-label", message, below_zero(target, name), measured=measured)
    if least >= 1 and most == classes:
        fix = f"Labels begin at 0: {name} - 1, best in the dataset."
        return Diagnosis("LD106", "labels-from-one", message, fix, measured=measured)
    if least >= 1 and most - least == classes - 1:
        fix = f"Classes begin at 0: {name} - {least}, best in the dataset."
        return Diagnosis("LD106", "labels-from-another-number", message, fix, measured=measured)
    fix = f"Give the last layer {most + 1} outputs (one a class), or map the labels to 0..{classes - 1}."
    if classes == 2 and target.second == least:  # two values and no third
        fix = (
            f"Map the labels {least} and {most} to 0 and 1, best where the dataset makes them: ({name} =="
            f" {most}).long(). If {most} marks what is not to count, it is ignore_index={most} instead."
        )
    elif most > classes and target.second is not None and target.second < classes:  # one value far from all others
        fix = f"If {most} marks what is not to count, name it: ignore_index={most}; if not: {fix[0].lower()}{fix[1:]}"
    return Diagnosis("LD106", "label-too-large", message, fix, measured=measured)


def _counts(error: ErrorRaised, scores: ErrorOperand, target: ErrorOperand) -> Diagnosis:
    """As many predictions as targets are wanted: the operation that changed the number, if it is seen."""
    given, wanted = scores.shape, target.shape
    size = error.batch_size
    row = batch_changed(error, given[0] if given else 0, size)
    flat = len(given) == 2 and len(wanted) == 2 and given[0] == numel(wanted)
    if row is not None and not flat and size and wanted[:1] == (size,):
        return concatenated(error, row, given[0], size)
    if flat:
        fix = f"Flatten the targets like the scores: {named(target, 'y')}.flatten()."
        return Diagnosis(
            "LD101",
            "target-not-flattened",
            f"{call_of(error)} gets {given[0]} rows of scores and targets {wanted}.",
            fix,
        )
    if row is not None and size:
        return concatenated(error, row, given[0] if given else 0, size)
    fix = (
        "Look at where the number of samples changes: keep the batch in dimension 0 (x.flatten(1), x.view(x.size(0),"
        " -1))."
    )
    return Diagnosis(
        "LD101", "target-count", f"{call_of(error)} gets scores {given} and targets {wanted}: not as many.", fix
    )


def batch_changed(error: ErrorRaised, now: int, size: int | None) -> ShapeRow | None:
    """The operation of the user's that made ``now`` rows of a batch of ``size``."""
    if not size or now == size or not now:
        return None
    for row in error.rows:
        whole = any(shape[:1] == (size,) for shape in row.inputs)
        if whole and row.output[:1] == (now,) and row.operation in _FOLDS:
            return row
    return None


_FOLDS = (
    "cat",
    "concat",
    "view",
    "reshape",
    "stack",
    "flatten",
    "vstack",
    "hstack",
    "repeat",
    "repeat_interleave",
    "transpose",
    "permute",
    "getitem",
    "squeeze",
    "mT",
    "T",
    "t",
    "sum",
    "mean",
    "unflatten",
    "rearrange",
)


def concatenated(error: ErrorRaised, row: ShapeRow, now: int, size: int) -> Diagnosis:
    """LD102: one operation changed the size of the batch dimension on the way to the loss."""
    given = " and ".join(str(shape) for shape in row.inputs[:3])
    message = (
        f"{row.operation} at {row.line} makes {now} rows of a batch of {size} ({given} -> {row.output}), and the loss"
        f" has {size} targets."
    )
    measured = {"rows": now, "batch_size": size, "refused": f"{error.operation} at {error.line}"}
    if row.operation in ("cat", "concat", "vstack"):
        fix = f"At {row.line}, join features, not samples: torch.cat(..., dim=1)."
    elif row.operation in ("view", "reshape"):
        features = numel(row.inputs[0]) // size
        fix = (
            f"At {row.line}, keep the batch: x.view(x.size(0), -1) or x.flatten(1), which gives ({size}, {features});"
            f" the next layer then takes {features} features."
        )
    elif row.operation in ("stack",):
        fix = f"At {row.line}, stack along a later dimension: torch.stack(..., dim=1)."
    else:
        fix = f"At {row.line}, keep the batch in dimension 0."
    return Diagnosis("LD102", "batch-dimension-changed", message, fix, row.line, measured)


def _pairs(error: ErrorRaised, scores: ErrorOperand, target: ErrorOperand) -> Diagnosis | None:
    given, wanted, name = scores.shape, target.shape, named(target, "the target")
    if OUTSIDE.search(error.message):
        return not_probabilities(error, target)
    if given == wanted and target.dtype in WHOLE:
        fix = f"Make the target a float: {name}.float(), best where the dataset makes it (dtype=torch.float32)."
        return Diagnosis(
            "LD105", "integer-target", f"{call_of(error)} gets targets of whole numbers, {described(target)}.", fix
        )
    if given == wanted:
        return None
    if numel(given) == numel(wanted):
        short = len(given) > len(wanted)
        fix = (
            f"Bring both to one shape: {named(scores, 'the prediction')}.squeeze(-1)"
            if short
            else f"Bring both to one shape: {name}.squeeze(-1)"
        )
        also = f", or {name}.unsqueeze(1)." if short else f", or {named(scores, 'the prediction')}.unsqueeze(1)."
        return Diagnosis(
            "LD101",
            "target-extra-dimension",
            f"{call_of(error)} gets predictions {given} and targets {wanted}.",
            fix + also,
        )
    if given[:1] == wanted[:1] and len(wanted) == 1 and target.dtype in WHOLE and len(given) == 2:
        fix = (
            f"For one label a sample use F.cross_entropy; else give one-hot targets: F.one_hot({name},"
            f" {given[1]}).float()."
        )
        return Diagnosis(
            "LD101",
            "indices-for-one-hot",
            f"{call_of(error)} gets predictions {given} and class indices {wanted}.",
            fix,
        )
    row = batch_changed(error, given[0] if given else 0, error.batch_size)
    if row is not None and error.batch_size and given[:1] != wanted[:1]:
        return concatenated(error, row, given[0], error.batch_size)
    if given[:1] == wanted[:1] and len(given) == len(wanted) == 2:
        fix = turned_input(error, given[1], wanted[1]) or (
            f"Give the last layer {wanted[1]} outputs: it makes {given[1]}, and there are {wanted[1]} targets a sample."
        )
        return Diagnosis(
            "LD101", "output-size", f"{call_of(error)} gets predictions {given} and targets {wanted}.", fix
        )
    fix = f"Bring both to one shape: predictions are {given}, targets {wanted}."
    if len(given) == len(wanted) > 2 and given[:2] == wanted[:2]:  # a decoder that does not give back the size
        fix = (
            f"Make the output as large as the target, by stride, padding and output_padding of the layers that enlarge "
            f"it; or resize it: F.interpolate({named(scores, 'the prediction')}, size={wanted[2:]})."
        )
    return Diagnosis("LD101", "target-shape", f"{call_of(error)} gets predictions {given} and targets {wanted}.", fix)
