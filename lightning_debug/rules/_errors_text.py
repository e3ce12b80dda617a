"""What the text of an exception tells: for a pasted traceback, and where operands could not be had."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from lightning_debug.evidence.errors import ErrorOperand, ErrorRaised
from lightning_debug.rules._errors_words import integers

_FRAME = re.compile(r'^\s*(?:\|\s*)?File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>\S+))?\s*$')
_ERROR = re.compile(
    r"^(?:\|\s*)?(?P<type>(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit|Warning))(?:: (?P<message>.*))?$"
)
_LIBRARIES = ("site-packages", "dist-packages", "lib/python3", "<frozen")
_PHASES = ("training_step", "validation_step", "test_step", "predict_step", "configure_optimizers")


def parse(text: str) -> ErrorRaised:
    """An exception from a traceback as Python prints it, or from its last line.

    Raises:
        ValueError: If no exception stands in the text.

    >>> error = parse("RuntimeError: mat1 and mat2 shapes cannot be multiplied (32x28 and 784x10)")
    >>> error.error, error.message[:4]
    ('RuntimeError', 'mat1')
    """
    lines = text.replace("\r", "").splitlines()
    found = None
    for index, line in enumerate(lines):
        match = _ERROR.match(line.strip())
        if match and not _FRAME.match(line):
            found = index, match
    if found is None:
        raise ValueError("no exception stands in the text: its last line should read like 'RuntimeError: ...'")
    at, match = found
    rest = [line.strip() for line in lines[at + 1 :] if line.strip()]
    message = "\n".join([match["message"] or "", *rest[:40]]).strip()
    error = ErrorRaised(error=match["type"].rpartition(".")[2], message=message, phase="text")
    return replace(error, **_frames(lines[:at]))  # type: ignore[arg-type]


def _frames(lines: list[str]) -> dict[str, str]:
    told: dict[str, str] = {}
    library = ""
    names: list[str] = []
    for index, line in enumerate(lines):
        match = _FRAME.match(line)
        if match is None:
            continue
        names.append(match["name"] or "")
        if any(part in match["file"].replace("\\", "/") for part in _LIBRARIES):
            library = match["name"] or library
            if "torch/nn/modules/" in match["file"].replace("\\", "/"):
                source = match["file"].rpartition("/")[2].removesuffix(".py")
                told.setdefault("module_type", source)
            continue
        following = lines[index + 1].strip() if index + 1 < len(lines) else ""
        told |= {"line": f"{match['file']}:{match['line']}", "function": match["name"] or "", "source": following}
        told.pop("module_type", None)
        library = ""
    if library and not library.startswith("_"):
        told["operation"] = library
    step = next((name for name in reversed(names) if name in _PHASES), "")
    return {**told, "phase": step or "text"}


def enriched(error: ErrorRaised) -> ErrorRaised:
    """The error with operands read from its message, where it has none."""
    if error.operands or not error.message:
        return error
    for pattern, read in _READERS:
        match = re.search(pattern, error.message)
        if match:
            return read(error, match)
    return error


def _products(text: str) -> tuple[int, ...]:
    return tuple(abs(number) for number in integers(text.replace("x", " ")))


def _matrices(error: ErrorRaised, match: re.Match[str]) -> ErrorRaised:
    first, second = _products(match[1]), _products(match[2])
    operation = error.operation if error.operation in ("linear", "matmul", "bmm", "mm", "addmm") else "matmul"
    linear = "linear" in (error.module_type.lower(), error.operation) or "F.linear" in error.source
    linear = linear or not error.source
    if linear:
        weight = ErrorOperand(name="the weight", dtype="", kind="parameter", argument="weight", shape=second[::-1])
        return replace(
            error, operation="linear", operands=(ErrorOperand(dtype="", argument="input", shape=first), weight)
        )
    return replace(
        error, operation=operation, operands=tuple(ErrorOperand(dtype="", shape=shape) for shape in (first, second))
    )


def _convolution(error: ErrorRaised, match: re.Match[str]) -> ErrorRaised:
    weight, given = integers(match[2]), integers(match[3])
    dimensions = len(weight) - 2
    operands = (
        ErrorOperand(dtype="", argument="input", shape=given),
        ErrorOperand(name="the weight", dtype="", kind="parameter", argument="weight", shape=weight),
    )
    return replace(error, operation=f"conv{dimensions}d", operands=operands, arguments={"groups": match[1]})


def _reshape(error: ErrorRaised, match: re.Match[str]) -> ErrorRaised:
    size = int(match[2])
    operands = (ErrorOperand(dtype="", shape=(size,), argument="0"),)
    return replace(error, operation="view", operands=operands, arguments={"1": f"({match[1]})"})


def _batches(error: ErrorRaised, match: re.Match[str]) -> ErrorRaised:
    first, second = int(match[1]), int(match[2])
    operands = (
        ErrorOperand(dtype="", argument="input", shape=(first, 0)),
        ErrorOperand(argument="target", shape=(second,), dtype="int64"),
    )
    return replace(error, operation="cross_entropy", operands=operands)


_READERS: tuple[tuple[str, Callable[[ErrorRaised, re.Match[str]], ErrorRaised]], ...] = (
    (r"shapes cannot be multiplied \((\d+x\d+) and (\d+x\d+)\)", _matrices),
    (r"groups=(\d+), weight of size (\[[\d, ]+\]), expected input(\[[\d, ]+\])", _convolution),
    (r"shape '\[([-\d, ]+)\]' is invalid for input of size (\d+)", _reshape),
    (r"Expected input batch_size \((\d+)\) to match target batch_size \((\d+)\)", _batches),
)
