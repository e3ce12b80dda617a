"""Errors of the backward pass: no graph, no scalar, a graph used twice, values changed in place."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorRaised, ShapeRow
from lightning_debug.rules._errors_words import Diagnosis, integers, numel, shape_text

_HOW = {
    "no_grad": "under torch.no_grad()",
    "rebuilt": "made anew from plain numbers",
    "frozen": "made while no parameter requires a gradient",
}
_COPIES = ("tensor", "as_tensor", "asarray")


def graph_faults(error: ErrorRaised) -> Diagnosis | None:
    """The fault of a loss or of its graph."""
    text = error.message
    if "does not require grad" in text and "grad_fn" in text:
        return _without_gradient(error)
    if "grad can be implicitly created only for scalar outputs" in text:
        return _not_scalar(error)
    many = any(numel(item.shape) > 1 for item in error.operands)  # the values in its text may fill what is kept of it
    if text.startswith("`self.log(") and ("the tensor must have a single element" in text or many):
        return _logged(error)
    if "through the graph a second time" in text:
        return _twice(error)
    if "modified by an inplace operation" in text or "used in an in-place operation" in text:
        return _in_place(error)
    return None


def _without_gradient(error: ErrorRaised) -> Diagnosis:
    how, by, at = (error.notes.get(name, "") for name in ("lost_how", "lost_by", "lost_at"))
    where = f" at {at}" if at else ""
    if how == "operation" and by in ("detach", "data"):
        cause, why, fix = (
            "detached",
            f"{by}{where} cuts it from the graph",
            f"Remove .{by}{'()' if by == 'detach' else ''}{where}.",
        )
    elif how == "operation":
        cause, why = "not-differentiable", f"{by}{where} has no derivative"
        fix = f"Give the loss what goes into {by}{where} (logits, probabilities) instead of its result."
        if by in _COPIES:
            cause, why = "rebuilt", f"{by}{where} copies the numbers, and not the graph"
            fix = f"Join tensors by torch.stack(...) (or torch.cat) instead of torch.{by}(...){where}."
    elif how == "no_grad":
        cause, why = "under-no-grad", f"{by}{where} runs {_HOW[how]}"
        fix = f"Take the torch.no_grad() (or inference_mode) away that {by}{where} runs under."
    elif how == "rebuilt":
        cause, why = "rebuilt", f"it is {_HOW[how]}{where} ({by or '.item()'})"
        fix = (
            "Return the tensor that the loss function gives: no .item(), float(), .numpy() or torch.tensor(...) on the"
            " way, and torch's functions in the place of NumPy's."
        )
    elif how == "frozen":
        cause, why = "all-frozen", f"it is {_HOW[how]}"
        fix = "Set requires_grad = True for the parameters that should train (a head, at least)."
    else:
        cause, why = "no-graph", "no tensor that it is made of requires a gradient"
        fix = "Compute the loss from the model's output, without detach(), .item(), .data or no_grad() on the way."
    return Diagnosis("LD109", cause, f"the loss has no gradient: {why}.", fix, at)


def _not_scalar(error: ErrorRaised) -> Diagnosis:
    shape = error.notes.get("loss_shape", "")
    told = f" of shape {shape}" if shape else ""
    row = next(
        (row for row in reversed(error.rows) if row.operation.endswith("loss") or "entropy" in row.operation), None
    )
    if row is not None and shape == shape_text(row.output):
        later = [other for other in error.rows[error.rows.index(row) + 1 :] if other.output == row.output]
        fix = "Take the mean of what goes backward: loss.mean()" + (
            "." if later else f"; or leave reduction='none' out at {row.line}."
        )
        return Diagnosis(
            "LD110",
            "no-reduction",
            f"backward starts at a loss{told}, which {row.operation} leaves unreduced.",
            fix,
            row.line,
        )
    fix = "Reduce it to one number: return loss.mean()."
    return Diagnosis("LD110", "vector", f"backward starts at a loss{told}, and needs one number.", fix)


def _logged(error: ErrorRaised) -> Diagnosis:
    """What is logged is not one number: mostly the loss itself, before backward could refuse it."""
    name = error.message[len("`self.log(") :].split(", ", 1)[0]
    value = next((item for item in error.operands if numel(item.shape) > 1), None)
    row = next((row for row in reversed(error.rows) if value is not None and row.output == value.shape), None)
    unreduced = row is not None and (row.operation.endswith("loss") or "entropy" in row.operation)
    what = f"{value.name}, of shape {shape_text(value.shape)}" if value is not None else "more than one value"
    made = f", which {row.operation} at {row.line} leaves unreduced" if row is not None and unreduced else ""
    mean = f"Take the mean: {value.name}.mean()" if value is not None and value.name.isidentifier() else "Take the mean"
    where = f" at {row.line}" if row is not None and unreduced else ""
    fix = f"{mean}; for a loss, leave reduction='none' out{where}."
    return Diagnosis(
        "LD110", "logged-vector", f"self.log('{name}', ...) is given {what}{made}, and takes one number.", fix
    )


def _twice(error: ErrorRaised) -> Diagnosis:
    if error.held:
        name = error.held[0].partition("[")[0]
        attribute = name.rpartition(".")[2]
        many = any("[" in item for item in error.held)
        cut = f"tuple(item.detach() for item in self.{attribute})" if many else f"self.{attribute}.detach()"
        message = f"a backward pass reaches the graph of an earlier step through {name}, which the module keeps."
        fix = f"Cut it when it is kept: self.{attribute} = {cut}."
        return Diagnosis("LD112", "kept-across-steps", message, fix, name)
    fix = "Add the losses up and call backward once; or backward(retain_graph=True) for all but the last."
    return Diagnosis("LD112", "backward-twice", "backward runs a second time through the same graph.", fix)


def _in_place(error: ErrorRaised) -> Diagnosis:
    text = error.message
    if "leaf Variable" in text:
        fix = "Change a copy (x = x + y instead of x += y, x.clone() before writing), or do it under torch.no_grad()."
        message = (
            f"{error.operation or 'an operation'} at {error.line} writes into a parameter that requires a gradient."
        )
        return Diagnosis("LD113", "leaf-in-place", message, fix)
    met = re.search(r"Tensor (\[[\d, ]*\])\](?:, which is output \d+ of (?:\w*::)?(\w+))?", text)
    shape = integers(met[1]) if met else ()
    maker = met[2].removesuffix("0").removesuffix("Backward").lower() if met and met[2] else ""
    row = _writer(error, shape)
    needs = f"{maker} needs" if maker else "the backward pass needs"
    if row is not None:
        where = f"{row.module} ({row.module_type})" if row.grouped else row.line
        fix = _copying(row)
        return Diagnosis(
            "LD113",
            "in-place",
            f"{row.operation} at {where} overwrites values of shape {shape_text(shape)} that {needs} for its gradient.",
            fix,
            row.line,
        )
    cause = "parameter-stepped" if maker in ("t", "asstrided", "transpose", "") else "in-place"
    fix = (
        "Run the forward pass again after optimizer.step() (or detach what comes from before it): a step changes"
        " weights that an older graph needs."
        if cause == "parameter-stepped"
        else (
            f"Replace the in-place operation on a tensor of shape {shape_text(shape)} (+=, relu_, x[...] =) by one that"
            " makes a new tensor."
        )
    )
    return Diagnosis("LD113", cause, f"values of shape {shape_text(shape)} that {needs} were changed in place.", fix)


def _writer(error: ErrorRaised, shape: tuple[int, ...]) -> ShapeRow | None:
    """The operation that changed values of a shape: a queue of keys is written as it lies, and needed transposed."""
    writers = [row for row in error.rows[::-1] if row.in_place and "norm" not in row.operation]  # they count batches
    told = [row for row in writers if row.gradient]
    same = [row for row in (*told, *writers) if row.output == shape]
    turned = [row for row in (*told, *writers) if sorted(row.output) == sorted(shape)]
    return next(iter((*same, *turned, *told)), None)


_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


def _copying(row: ShapeRow) -> str:
    if row.grouped:
        return f"Make {row.module} without inplace=True."
    if row.operation in _SYMBOLS:
        symbol = _SYMBOLS[row.operation]
        return f"At {row.line}, write x = x {symbol} y instead of x {symbol}= y."
    if row.operation == "setitem":
        return f"At {row.line}, write into a copy: x = x.clone() first, or torch.where / torch.cat."
    return f"At {row.line}, use {row.operation} without the underscore (or without inplace=True)."
