"""Errors about the batch: how it was put together, how it is read, and a size that is written into the code."""

from __future__ import annotations

import ast
import difflib
import re

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_words import Diagnosis, call_of, described, inputs_of, integers, named, numel


def misread_batch(error: ErrorRaised) -> Diagnosis | None:
    """A key, an attribute or a number of items that the batch does not have."""
    if not error.containers or error.phase not in ("training_step", "validation_step", "test_step"):
        return None
    for judge in (_missing_key, _unpacking, _attribute, _container_as_tensor):
        found = judge(error)
        if found is not None:
            return found
    return None


def _missing_key(error: ErrorRaised) -> Diagnosis | None:
    read = {name for name, _ in _subscripts(error)}
    if error.error == "KeyError":
        key = error.message.strip("'\"")
        if not read.intersection(error.containers):
            return None
        owner = next(name for name in (*sorted(read - {"batch"}), "batch") if name in read and name in error.containers)
        about = error.containers[owner]
        keys = re.findall(r"'([^']*)'", about.partition("keys")[2])
        near = difflib.get_close_matches(key, keys, n=1, cutoff=0.3)
        hint = f"{owner}[{near[0]!r}]" if near else f"one of {', '.join(map(repr, keys))}"
        return Diagnosis(
            "LD111",
            "missing-key",
            f"{owner} has no key {key!r}: it is {about}.",
            f"Read {hint} instead of {owner}[{key!r}].",
        )
    if error.error == "IndexError" and "out of range" in error.message and "index" in error.message:
        owner = next((name for name in error.containers if name in read), "")
        if owner and ("list index" in error.message or "tuple index" in error.message):
            fix = f"Read an item that {owner} has, or return it from the dataset's __getitem__."
            return Diagnosis("LD111", "missing-item", f"{owner} is {error.containers[owner]}.", fix)
    if error.error == "TypeError" and "indices must be integers" in error.message:
        owner = next((name for name in error.containers if name in read), "")
        if owner:
            fix = f"Unpack it: x, y = {owner}, or have the dataset return a dict."
            return Diagnosis("LD111", "not-a-dict", f"{owner} is {error.containers[owner]}, and is read by keys.", fix)
    return None


def _unpacking(error: ErrorRaised) -> Diagnosis | None:
    many = re.search(r"too many values to unpack \(expected (\d+)", error.message)
    few = re.search(r"not enough values to unpack \(expected (?:at least )?(\d+), got (\d+)\)", error.message)
    if error.error != "ValueError" or not (many or few):
        return None
    names, targets = _unpacked(error)
    owner = next((name for name in error.containers if name in names), "")
    if not owner:
        return None
    about, wanted = error.containers[owner], (many or few or [""])[1]
    if "keys" in about:
        keys = re.findall(r"'[^']*'", about.partition("keys")[2])
        values = ", ".join(f"{owner}[{key}]" for key in keys[: int(wanted)])
        fix = f"Read it by keys: {', '.join(targets) or '...'} = {values}."
    else:
        items = re.search(r"of (\d+) items", about)
        count = int(items[1]) if items else 0
        kept = [*targets[:count], *(["_"] * (count - len(targets)))]
        fix = (
            f"Unpack as many as there are: {', '.join(kept)} = {owner}."
            if count
            else f"Do not unpack {owner}: it is {about}."
        )
    return Diagnosis("LD111", "wrong-number-of-items", f"{owner} is {about}, and is unpacked into {wanted}.", fix)


def _attribute(error: ErrorRaised) -> Diagnosis | None:
    found = re.search(r"'(\w+)' object has no attribute '(\w+)'", error.message)
    if error.error != "AttributeError" or not found:
        return None
    kind, attribute = found[1], found[2]
    owner = next((n for n in error.containers if re.search(rf"\b{n}\.{attribute}\b", error.source)), "")
    if not owner and kind in ("list", "tuple", "dict") and error.containers["batch"].startswith(f"a {kind} "):
        owner = "batch"
    if not owner:
        return None
    about = error.containers[owner]
    keys = re.findall(r"'([^']*)'", about.partition("keys")[2])
    if attribute in keys:
        fix = f"Read {owner}[{attribute!r}] instead of {owner}.{attribute}."
    elif keys:
        fix = f"Take the tensor out of {owner} first: {owner}[{keys[0]!r}]."
    else:
        fix = f"Unpack it first: x, y = {owner}."
    return Diagnosis("LD111", "container-for-tensor", f"{owner} is {about}, which has no {attribute}.", fix)


def _container_as_tensor(error: ErrorRaised) -> Diagnosis | None:
    if error.error == "TypeError" and "must be Tensor, not str" in error.message:
        return _key_as_tensor(error)
    found = re.search(r"must be Tensor, not (list|tuple|dict)", error.message)
    kind = found[1] if found else ""
    if error.error != "TypeError" or not kind or not error.containers["batch"].startswith(f"a {kind} "):
        return None
    about = error.containers["batch"]
    keys = re.findall(r"'([^']*)'", about.partition("keys")[2])
    fix = f"Pass the tensor: batch[{keys[0]!r}]." if keys else "Unpack the batch first: x, y = batch, and pass x."
    return Diagnosis("LD111", "container-for-tensor", f"the model is given the whole batch, {about}.", fix)


def _key_as_tensor(error: ErrorRaised) -> Diagnosis | None:
    about = error.containers["batch"]
    keys = re.findall(r"'[^']*'", about.partition("keys")[2])
    if not about.startswith("a dict ") or not keys:
        return None
    told = f"a text is passed for a tensor: batch is {about}, and to unpack it or to iterate over it gives its keys."
    return Diagnosis("LD111", "key-for-value", told, f"Read it by keys: {', '.join(f'batch[{key}]' for key in keys)}.")


def _tree(error: ErrorRaised) -> ast.AST | None:
    try:
        return ast.parse(error.source)
    except SyntaxError:
        return None


def _subscripts(error: ErrorRaised) -> list[tuple[str, str]]:
    tree = _tree(error)
    if tree is None:
        return []
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    names = [(ast.unparse(node.value), ast.unparse(node.slice)) for node in nodes]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    names += [
        (ast.unparse(node.func.value), ast.unparse(node.args[0]))
        for node in calls
        if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and node.args
    ]
    aliases = [item.strip() for item in error.notes.get("batch_names", "").split(",")]
    return [("batch" if name in aliases and name not in error.containers else name, key) for name, key in names]


def _unpacked(error: ErrorRaised) -> tuple[list[str], list[str]]:
    """What a line unpacks, and into which names."""
    tree = _tree(error)
    if tree is None:
        return [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Tuple, ast.List)):
            source = ast.unparse(node.value)
            aliases = [item.strip() for item in error.notes.get("batch_names", "").split(",")]
            names = [source, "batch"] if source in aliases else [source]
            return names, [ast.unparse(item) for item in node.targets[0].elts]
    return [], []


_RECURRENT = re.compile("LSTM|GRU|RNN")
_SIZES = re.compile(r"size|shape|batch|match|broadcast|invalid for input|dimension|Expected hidden|expand", re.I)


def hard_coded_batch(error: ErrorRaised) -> Diagnosis | None:
    """A batch size that is written into the code or kept from construction, met by a batch of another size."""
    size, full = error.batch_size, error.full_batch_size
    if size is None or error.phase in ("data", "configure_optimizers", "optimizer") or not _SIZES.search(error.message):
        return None
    if error.error not in ("RuntimeError", "ValueError", "AssertionError", "IndexError"):
        return None
    written = full if full is not None and full != size and not _is_second(error, full) else None
    found = _reshaped(error, size, written)
    return found if found is not None or written is None else _kept(error, size, written)


def _is_second(error: ErrorRaised, full: int) -> bool:
    """Whether the batch is full, its samples in dimension 1: time comes first."""
    shapes = [item.shape for item in error.fields if item.kind == "batch" or not item.kind]
    return len(shapes) > 1 and all(shape[1:2] == (full,) for shape in shapes)


def _reshaped(error: ErrorRaised, size: int, written: int | None) -> Diagnosis | None:
    """A size in the arguments of view, expand and their like."""
    if error.operation not in ("view", "reshape", "expand", "repeat", "unflatten", "broadcast_to"):
        return None
    first = _leading(error)
    given = inputs_of(error)[0].shape if inputs_of(error) else ()
    known = written is not None and first == written
    per_sample = error.operation in ("view", "reshape") and len(given) > 1 and given[0] == size
    told = first is not None and first > 1 and first != size and per_sample and _fits_but_for_batch(error, given)
    if first is not None and (known or told):
        name = named(inputs_of(error)[0], "x")
        name = "x" if name.startswith("the output of") else name
        free = error.operation in ("view", "reshape") and -1 not in integers(" ".join(error.arguments.values()))
        fix = f"Take the size from the tensor: .{error.operation}({name}.size(0), ...) instead of {first}"
        return hard_coded(error, first, size, f"{fix}, or write -1 there." if free else f"{fix}.")
    return None


def _kept(error: ErrorRaised, size: int, written: int) -> Diagnosis | None:
    """A tensor as long as a full batch beside one as long as this one."""
    odd = _odd_one(error, size, written)
    row = next(
        (row for row in error.rows if row.output[:1] == (written,) and row.inputs and row.inputs[0][:1] == (size,)),
        None,
    )
    if row is not None:
        fix = f"At {row.line}, take the size from the tensor (x.size(0)) instead of {written}."
        return hard_coded(error, written, size, fix, row.line)
    if odd is not None:
        line = odd.made_at
        if odd.kind in ("buffer", "attribute", "parameter"):
            fix = (
                f"Make {odd.name} in the step with the size of its input: torch.zeros(..., x.size(0), ...), not once"
                f" with {written}."
            )
        else:
            fix = (
                f"Take the size from the tensor (x.size(0)) where {named(odd, 'it')} is"
                f" made{f' ({line})' if line else ''}, instead of {written}."
            )
        return hard_coded(
            error, written, size, fix, line or (odd.name if odd.kind in ("buffer", "attribute", "parameter") else "")
        )
    numbers = integers(error.message)
    if "indexing tensors" in error.message and sorted(numbers) == sorted((written, size)):
        fix = f"Count the rows where the index is made: range(len(y)) or torch.arange(len(y)) instead of {written}."
        return hard_coded(error, written, size, fix)
    if not error.operands and written in numbers and size in numbers:
        return hard_coded(error, written, size, f"Take the size from the tensor (x.size(0)) instead of {written}.")
    if error.operation in ("LSTM", "GRU", "RNN") and written in numbers and size in numbers:
        fix = (
            f"Make the hidden state in the step: torch.zeros(layers, x.size(0), hidden), not with {written}; or pass"
            " none."
        )
        return hard_coded(error, written, size, fix)
    return None


def _odd_one(error: ErrorRaised, size: int, written: int) -> ErrorOperand | None:
    foreign = [item for item in error.operands if not (error.module and item.name.startswith(f"{error.module}."))]
    longs = [item for item in foreign if written in item.shape and size not in item.shape]
    shorts = [item for item in foreign if size in item.shape and written not in item.shape]
    if not longs or not shorts:
        return None
    apart = longs[0].shape.index(written) != shorts[0].shape.index(size)
    return None if apart and not _RECURRENT.match(error.module_type) else longs[0]


def _leading(error: ErrorRaised) -> int | None:
    text = " ".join(value for key, value in error.arguments.items() if key not in ("0", "dtype"))
    numbers = integers(text)
    return numbers[0] if numbers else None


def _fits_but_for_batch(error: ErrorRaised, given: tuple[int, ...]) -> bool:
    """Whether the sizes after the first are those of one sample."""
    text = " ".join(value for key, value in error.arguments.items() if key not in ("0", "dtype"))
    rest = integers(text)[1:]
    return bool(rest) and -1 not in rest and numel(rest) == numel(given[1:])


def hard_coded(error: ErrorRaised, written: int, size: int, fix: str, subject: str = "") -> Diagnosis:
    """LD103, with the edit."""
    what = "; ".join(map(described, error.operands[:2]))
    message = (
        f"{call_of(error)} is written for batches of {written}, and gets one of {size}{f': {what}' if what else ''}."
    )
    return Diagnosis("LD103", "hard-coded-batch-size", message, fix, subject, {"written": written, "batch_size": size})
