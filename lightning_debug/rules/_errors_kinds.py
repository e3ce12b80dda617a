"""A call is given a value of another kind: a tuple, None, an array, a method, tensors where settings are wanted."""

from __future__ import annotations

import re
from collections.abc import Callable

from lightning_debug.evidence.errors import ErrorRaised, ShapeRow
from lightning_debug.rules._errors_words import Diagnosis, place

_CODE = "LD120"
_KINDS = r"must be Tensor, not (tuple|NoneType|numpy\.ndarray)|got \(?(tuple|NoneType|numpy\.ndarray)\b"
_RECURRENT = ("LSTM", "GRU", "RNN", "lstm", "gru", "rnn_tanh", "rnn_relu")


def wrong_kinds(error: ErrorRaised) -> Diagnosis | None:
    """What was passed in the place of what, and the edit."""
    if error.error not in ("TypeError", "RuntimeError", "AttributeError"):
        return None
    for pattern, judge in _JUDGES:
        if re.search(pattern, error.message):
            return judge(error)
    return None


def _for_tensor(error: ErrorRaised) -> Diagnosis | None:
    """A layer is given what another returns beside its output, nothing, or an array."""
    found = re.search(_KINDS, error.message)
    kind = found[1] or found[2] if found else ""
    if not error.module_type or not kind:
        return None
    if kind == "NoneType":
        fix = (
            f"Return the output from the forward() before {error.module or error.line}: one without return gives None."
        )
        return Diagnosis(_CODE, "nothing-for-tensor", f"{place(error)} gets None for a tensor.", fix)
    if kind == "numpy.ndarray":
        fix = "Make tensors where the batch is put together: torch.as_tensor(array), as default_collate does."
        return Diagnosis(_CODE, "array-for-tensor", f"{place(error)} gets a NumPy array for a tensor.", fix)
    maker = next((row for row in reversed(error.rows) if _is_pair(row)), None)
    if maker is None:
        message = f"{place(error)} gets a tuple for a tensor."
        return Diagnosis(
            _CODE, "tuple-for-tensor", message, "Unpack it and pass the tensor that is meant: out, _ = ..."
        )
    who, given = f"{maker.module} ({maker.module_type})", "its state" if _is_recurrent(maker) else "its weights"
    siblings = maker.module.rpartition(".")[0] == error.module.rpartition(".")[0]
    outside = ", outside of nn.Sequential, which hands on both" if siblings and error.module[-1:].isdigit() else ""
    fix = f"Take the first item of what {maker.module} returns: out, _ = {_called(maker)}{outside}."
    message = f"{place(error)} gets a tuple: {who} returns its output and {given}."
    return Diagnosis(_CODE, "tuple-for-tensor", message, fix, maker.module)


def _is_recurrent(row: ShapeRow) -> bool:
    return row.module_type in _RECURRENT or row.operation in _RECURRENT


def _is_pair(row: ShapeRow) -> bool:
    return row.grouped and (_is_recurrent(row) or row.module_type == "MultiheadAttention")


def _called(row: ShapeRow) -> str:
    dotted = re.sub(r"\.(\d+)", r"[\1]", row.module)
    return f"self.{dotted}(x)" if _is_recurrent(row) else f"self.{dotted}(x, x, x)"


def _loss_made(error: ErrorRaised) -> Diagnosis | None:
    """A loss module is made of the tensors that it should be called with."""
    made = re.search(r"\b((?:\w+\.)*(\w+Loss))\(([^()]*(?:\([^()]*\)[^()]*)*)\)(?!\s*\()", error.source)
    if made is None or not made[3].strip() or "=" in made[3].replace("==", ""):
        return None
    fix = f"Make it first, then call it: {made[1]}()({made[3]})."
    message = f"{made[1]} at {error.line} is made with tensors for its settings: it is a module, and no function."
    return Diagnosis(_CODE, "module-made-for-called", message, fix)


def _not_called(error: ErrorRaised) -> Diagnosis | None:
    name = re.search(r"([\w.\[\]]*\.(?:named_)?parameters)\b(?!\s*\()", error.source)
    if name is None:
        return None
    message = f"{name[1]} at {error.line} is the method itself, and not the parameters that it gives."
    return Diagnosis(_CODE, "method-for-value", message, f"Call it: {name[1]}().")


def _size_as_call(error: ErrorRaised) -> Diagnosis | None:
    used = re.search(r"([\w.\[\]]+)\.shape\(([^()]*)\)", error.source)
    if used is None:
        return None
    fix = f"Write {used[1]}.shape[{used[2]}], or {used[1]}.size({used[2]})."
    return Diagnosis(_CODE, "shape-called", f"{used[1]}.shape at {error.line} is no method.", fix)


def _size_as_item(error: ErrorRaised) -> Diagnosis | None:
    used = re.search(r"([\w.\[\]]+)\.size\[([^\[\]]*)\]", error.source)
    if used is None:
        return None
    fix = f"Write {used[1]}.size({used[2]}), or {used[1]}.shape[{used[2]}]."
    return Diagnosis(_CODE, "size-indexed", f"{used[1]}.size at {error.line} is a method.", fix)


_JUDGES: tuple[tuple[str, Callable[[ErrorRaised], Diagnosis | None]], ...] = (
    (_KINDS, _for_tensor),
    (r"Boolean value of Tensor with more than one value is ambiguous", _loss_made),
    (r"'method' object is not iterable", _not_called),
    (r"'torch\.Size' object is not callable", _size_as_call),
    (r"'builtin_function_or_method' object is not subscriptable|'method' object is not subscriptable", _size_as_item),
)
