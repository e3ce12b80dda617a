"""Errors of kind: tensors on two devices, of two dtypes, and indices out of range."""

from __future__ import annotations

import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_words import Diagnosis, call_of, described, inputs_of, named, weights_of

WHOLE = ("int64", "int32", "int16", "int8", "uint8", "bool")
REAL = ("float32", "float64", "float16", "bfloat16")
_DEVICE = re.compile(
    r"same device|expected device|cuda.*(?:weight|bias) type|on the same device|device meta|meta tensor|is on"
    r" (?:cpu|cuda|meta)",
    re.I,
)


def device_faults(error: ErrorRaised) -> Diagnosis | None:
    """Tensors on two devices, or on the one that holds no values."""
    if "Cannot copy out of meta tensor" in error.message:
        return _without_values(error)
    devices = {item.device for item in error.operands if item.shape or item.device not in ("cpu",)}
    typed = re.search(
        r"Input type \(torch\.(\w*)\.?\w+Tensor\) and weight type \(torch\.(\w*)\.?\w+Tensor\)", error.message
    )
    by_type = bool(typed and ("cuda" in typed[1]) != ("cuda" in typed[2]))
    if len(devices) < 2 and not _DEVICE.search(error.message) and not by_type:
        return None
    if error.error not in ("RuntimeError", "NotImplementedError", "ValueError", "AcceleratorError"):
        return None
    home = error.notes.get("device", "")
    odd = next((item for item in error.operands if not _same(item.device, home)), None) if home else None
    listed = ", ".join(f"{named(item, 'a tensor')} on {item.device}" for item in error.operands[:4])
    message = f"{call_of(error)} gets tensors on two devices{f': {listed}' if len(devices) > 1 else ''}."
    if error.unregistered:
        name = error.unregistered[0]
        attribute = name.rpartition(".")[2]
        fix = (
            f"Keep {name} in nn.ModuleList: self.{attribute} = nn.ModuleList(self.{attribute}), so that it moves with"
            " the model."
        )
        return Diagnosis("LD104", "unregistered-modules", message, fix, name)
    if odd is None or len(devices) < 2:
        fix = "Make new tensors with device=x.device, and register what the module keeps (register_buffer)."
        return Diagnosis("LD104", "two-devices", message, fix)
    if odd.kind == "attribute":
        attribute, _, item = odd.name.rpartition(".")[2].partition("[")
        name = f'f"{attribute}_{{i}}"' if item else f'"{attribute}"'
        each = f"each item of self.{attribute} " if item else "it"
        fix = (
            f"Register {each.strip()}, so that it moves with the model: self.register_buffer({name}, ...) instead of"
            f" self.{attribute} = {'[...]' if item else '...'}"
        )
        if item:
            fix += f", and read it as getattr(self, {name})."
        return Diagnosis("LD104", "not-a-buffer", message, fix, odd.name)
    if odd.kind == "batch":
        fix = (
            f"Have the batch moved as a whole: {odd.name} stays behind; move it in transfer_batch_to_device, or"
            f" {odd.name}.to(self.device)."
        )
        return Diagnosis("LD104", "batch-not-moved", message, fix, odd.name)
    if odd.kind in ("parameter", "buffer"):
        fix = (
            f"Leave {odd.name} where the model is: no .to(...) or .cpu() on a part of it; load checkpoints with"
            " map_location."
        )
        return Diagnosis("LD104", "part-of-model-moved", message, fix, odd.name)
    made = odd.made_at or error.line
    fix = f"At {made}, make it on the right device: {odd.made_by or 'torch.zeros'}(..., device=self.device)."
    return Diagnosis("LD104", "made-on-other-device", message, fix, odd.made_at)


def _without_values(error: ErrorRaised) -> Diagnosis:
    """Weights on the meta device that were never filled."""
    who = error.module or "a module"
    about = f" ({error.module_type})" if error.module and error.module_type else ""
    message = f"{who}{about} is on the meta device, where tensors have a shape and no values: they cannot be moved."
    fix = (
        f"Make {error.module or 'it'} without device='meta', or fill it before the fit: .to_empty(device='cpu'), then "
        "reset_parameters() or load_state_dict(...) (load_state_dict(..., assign=True) does both)."
    )
    return Diagnosis("LD104", "meta-device", message, fix, error.module)


def _same(device: str, home: str) -> bool:
    return device == home or device.partition(":")[0] == home.partition(":")[0]


_DTYPES = re.compile(
    r"dtype|scalar type|Input type|not implemented for|result type|type LongTensor|tensors used as indices|"
    r"must be long|with a bool tensor|must be either a floating|Expected tensor for argument|floating|must be (?:on|of)"
    r" type",
    re.I,
)


def dtype_faults(error: ErrorRaised) -> Diagnosis | None:
    """Operands of dtypes that do not go together."""
    if not _DTYPES.search(error.message) or error.error not in (
        "RuntimeError",
        "TypeError",
        "IndexError",
        "ValueError",
        "NotImplementedError",
        "AssertionError",
    ):
        return None
    for judge in (_float_indices, _mask_dtype, _late_mismatch, _input_against_weight, _two_dtypes, _alone, _by_text):
        found = judge(error)
        if found is not None:
            return found
    return None


def _float_indices(error: ErrorRaised) -> Diagnosis | None:
    text = error.message
    asks = (
        "tensors used as indices" in text
        or "for argument #1 'indices'" in text
        or "index tensor of type" in text
        or "dtype int64 for index" in text
    )
    if not asks and error.operation not in ("embedding", "one_hot", "gather", "index_select"):
        return None
    odd = next(
        (
            item
            for item in inputs_of(error)[::-1]
            if item.dtype not in WHOLE or item.dtype in ("bool", "uint8", "int16", "int8")
        ),
        None,
    )
    if error.operation in ("gather", "index_select") and asks:
        odd = next((item for item in error.operands[1:] if item.dtype != "int64"), odd)
    if not asks and (odd is None or odd.dtype not in REAL):
        return None
    name = named(odd, "the index") if odd is not None else "the index"
    kind = f" of {odd.dtype}" if odd is not None else ""
    fix = f"Make the indices whole numbers: {name}.long(), best where the dataset makes them (dtype=torch.long)."
    return Diagnosis("LD105", "float-indices", f"{call_of(error)} gets indices{kind}: {name}.", fix)


def _mask_dtype(error: ErrorRaised) -> Diagnosis | None:
    attends = "attention" in error.operation.lower() or error.module_type in (
        "MultiheadAttention",
        "TransformerEncoderLayer",
        "TransformerEncoder",
    )
    if not attends or "mask" not in error.message:
        return None
    fix = (
        "Make the mask bool: mask.bool() (True = left out, for nn.MultiheadAttention; True = kept, for"
        " scaled_dot_product_attention)."
    )
    return Diagnosis("LD105", "mask-dtype", f"{call_of(error)} gets a mask of whole numbers.", fix)


def _late_mismatch(error: ErrorRaised) -> Diagnosis | None:
    """A loss of two dtypes that is only refused in the backward pass."""
    found = re.search(r"Found dtype (\w+) but expected (\w+)", error.message)
    if not found:
        return None
    kinds = {"Long": "integer-target", "Int": "integer-target", "Double": "double-target"}
    row = next(
        (row for row in reversed(error.rows) if row.operation.endswith("loss") or "entropy" in row.operation), None
    )
    where = row.line if row is not None else error.line
    what = row.operation if row is not None else "the loss"
    fix = "Make the target a float: y.float(), best where the dataset makes it (dtype=torch.float32)."
    message = f"{what} at {where} has a target of dtype {found[1]} beside predictions of {found[2]}."
    return Diagnosis("LD105", kinds.get(found[1], "target-dtype"), message, fix, where)


def _input_against_weight(error: ErrorRaised) -> Diagnosis | None:
    weights = [item for item in weights_of(error) if item.dtype in REAL]
    odd = next((item for item in inputs_of(error) if weights and item.dtype != weights[0].dtype), None)
    if odd is None or not weights:
        return None
    return _odd(error, odd, weights[0].dtype, f"the weights are {weights[0].dtype}")


def _odd(error: ErrorRaised, odd: ErrorOperand, wanted: str, beside: str) -> Diagnosis:
    name = named(odd)
    cast = {"float32": ".float()", "float64": ".double()", "float16": ".half()", "bfloat16": ".bfloat16()"}.get(
        wanted, f".to(torch.{wanted})"
    )
    if odd.dtype in WHOLE:
        cause = "integer-input"
    elif odd.dtype == "float64":
        cause = "double-input"
    elif odd.dtype in ("float16", "bfloat16"):
        cause = "half-input"
    else:
        cause = "dtypes-differ"
    source = (
        f", or where {odd.made_at} makes it"
        if odd.made_at
        else ", best where the dataset makes it (NumPy makes float64)"
        if odd.dtype == "float64"
        else ""
    )
    message = f"{call_of(error)} gets {described(odd)}, and {beside}."
    others = [item.name for item in inputs_of(error) if item.dtype == odd.dtype and item.kind == odd.kind == "batch"]
    casts = " and ".join(f"{one}{cast}" for one in dict.fromkeys((name, *others)))
    return Diagnosis("LD105", cause, message, f"Cast it: {casts}{source}.")


def _two_dtypes(error: ErrorRaised) -> Diagnosis | None:
    real = [item for item in error.operands if item.dtype in REAL]
    whole = [item for item in error.operands if item.dtype in WHOLE]
    if real and whole and error.operation in ("matmul", "bmm", "mm", "einsum", "addmm", "linear", "mv", "dot"):
        return _odd(error, whole[0], real[0].dtype, f"the other is {real[0].dtype}")
    kinds = list(dict.fromkeys(item.dtype for item in real))
    if len(kinds) > 1:
        wanted = "float32" if "float32" in kinds else kinds[0]
        odd = next(item for item in real if item.dtype != wanted)
        return _odd(error, odd, wanted, f"the other is {wanted}")
    return None


def _alone(error: ErrorRaised) -> Diagnosis | None:
    """One integer operand, of an operation that is made for floats."""
    if re.search(r"with a bool tensor", error.message):
        fix = "Use logical_not (~mask) or mask.float() instead of arithmetic on a bool mask."
        return Diagnosis("LD105", "bool-arithmetic", f"{call_of(error)} computes with a bool tensor.", fix)
    whole = [item for item in error.operands if item.dtype in WHOLE]
    if whole and len(whole) == len(error.operands):
        return _odd(error, whole[0], "float32", "it needs floating-point numbers")
    return None


def _by_text(error: ErrorRaised) -> Diagnosis | None:
    text = error.message
    pair = re.search(
        r"(?:got:?|Input type \()\s*(?:torch\.)?(\w+?)(?:Tensor)?\)? (?:and|!=) (?:bias type \(|weight type"
        r" \()?(?:torch\.)?(\w+?)(?:Tensor)?\b",
        text,
    )
    found = re.search(r"expected (?:scalar )?(?:d?type) (\w+) but found (\w+)", text, re.I)
    given, wanted = (pair[1], pair[2]) if pair else (found[2], found[1]) if found else ("", "")
    if "not implemented for" in text:
        given = (re.search(r"not implemented for '(\w+)'", text) or ["", ""])[1]
        wanted = "Float"
    if not given:
        return None
    kinds = {
        "double": "double-input",
        "long": "integer-input",
        "int": "integer-input",
        "byte": "integer-input",
        "char": "integer-input",
        "half": "half-input",
        "bfloat16": "half-input",
        "float": "float-indices" if wanted.lower() == "long" else "dtypes-differ",
    }
    cause = kinds.get(given.lower(), "dtypes-differ")
    if wanted.lower() == "double" and given.lower() == "float":
        cause = "double-input"
    cast = ".long()" if wanted.lower() == "long" else ".float()"
    return Diagnosis(
        "LD105",
        cause,
        f"{call_of(error)} gets {given} where {wanted} is wanted.",
        f"Cast it: x{cast}, best where the dataset makes it.",
    )


def loss_weight(error: ErrorRaised) -> Diagnosis | None:
    """Class weights of another dtype than the scores beside them."""
    weight = next((item for item in error.operands[2:] if item.argument == "weight"), None)
    wanted = error.operands[0].dtype if error.operands else ""
    if weight is None or weight.dtype == wanted or not {weight.dtype, wanted} <= set(REAL):
        return None
    if not _DTYPES.search(error.message):
        return None
    also = " (NumPy and scikit-learn make float64)" if weight.dtype == "float64" else ""
    fix = f"Make the weights {wanted}: torch.as_tensor(weights, dtype=torch.{wanted}){also}."
    message = f"{call_of(error)} gets class weights of {weight.dtype}, {named(weight)}, beside scores of {wanted}."
    return Diagnosis("LD105", "class-weights-dtype", message, fix, weight.name)


def below_zero(label: ErrorOperand, name: str) -> str:
    """What to do about class labels that begin below 0."""
    least = label.minimum
    if (least, label.second, label.maximum) == (-1, -1, 1):
        return f"If -1 and 1 are the classes, map them: ({name} + 1) // 2; if -1 is not to count: ignore_index=-1."
    return f"Leave those samples out, or name the label: ignore_index={least}."
