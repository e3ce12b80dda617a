"""Reads source as text: what a module imports, what private attributes and collectives it touches."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import lightning_debug

ROOT = Path(__file__).parents[1]
PACKAGE = Path(lightning_debug.__file__).parent
LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")

COLLECTIVES = {
    "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "barrier",
    "broadcast_object_list", "gather_object", "monitored_barrier", "reduce_boolean_decision", "reduce_scatter",
    "reduce_scatter_tensor", "scatter_object_list",
}  # fmt: skip
"""Calls that wait for other ranks, whatever they are called on."""

SHORT_COLLECTIVES = {"broadcast", "gather", "reduce", "scatter"}
"""The same, where they are called on a strategy or on torch.distributed: other things have methods of these names."""

LIGHTNING_NAMES = {
    "data_connector", "datamodule", "epoch_loop", "evaluation_loop", "fit_loop", "lightning_module", "logger",
    "loggers", "logger_connector", "manual_optimization", "automatic_optimization", "pl_module", "precision_plugin",
    "strategy", "trainer", "val_loop",
}  # fmt: skip
"""What variables and attributes that hold Lightning's objects are called."""


def module_name(path: Path) -> str:
    """``lightning_debug.rules.ld001_probe_failed`` for its file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, name: str = "lightning_debug.somewhere", *, package: bool = False) -> list[str]:
    """Every module imported anywhere in a source, absolute; ``from a import b`` counts as ``a.b``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")
                keep = len(parents) - node.level + (1 if package else 0)
                base = ".".join([*parents[:keep], *([base] if base else [])])
            found += [f"{base}.{item.name}" for item in node.names]
        elif (
            isinstance(node, ast.Call)
            and node.args
            and dotted(node.func).rpartition(".")[2]
            in (
                "__import__",
                "import_module",
            )
        ):
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                found.append(target.value)
    return found


def within(module: str, names: Iterable[str]) -> bool:
    """Whether a module is one of ``names`` or inside one; a name that ends in ``_`` is a prefix."""
    return any(
        module == name or module.startswith(f"{name}.") or (name.endswith("_") and module.startswith(name))
        for name in names
    )


def outside(source: str, allowed: Iterable[str], **options: object) -> list[str]:
    """What a source imports beyond the standard library and ``allowed``."""
    standard = {*sys.stdlib_module_names}
    return [
        module
        for module in imports(source, **options)
        if module.partition(".")[0] not in standard and not within(module, allowed)
    ]


def inside(source: str, forbidden: Iterable[str], **options: object) -> list[str]:
    """What a source imports of ``forbidden``."""
    return [module for module in imports(source, **options) if within(module, forbidden)]


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an expression, calls and subscripts left out."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and dotted(node.func) == "getattr" and isinstance(node.args[1], ast.Constant):
        return f"{dotted(node.args[0])}.{node.args[1].value}"
    if isinstance(node, ast.Call | ast.Subscript):
        return dotted(node.func if isinstance(node, ast.Call) else node.value)
    return ""


def collectives(source: str) -> list[str]:
    """Calls in a source that wait for other ranks."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            owner, _, name = dotted(node.func).rpartition(".")
            among = any(word in part for part in owner.split(".") for word in ("strategy", "dist", "fabric"))
            if name in COLLECTIVES or (name in SHORT_COLLECTIVES and among):
                found.append(f"{owner}.{name}")
        elif isinstance(node, ast.Attribute) and node.attr == "log_dir" and "trainer" in dotted(node.value):
            found.append(f"{dotted(node)} (it broadcasts)")
    return found


def private_attributes(source: str) -> list[str]:
    """Attributes with a leading underscore that a source reads on what is named like an object of Lightning."""
    return [f"{owner}.{name}" for owner, name in _attributes(source) if owner.rpartition(".")[2] in LIGHTNING_NAMES]


def _attributes(source: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            yield dotted(node.value), node.attr
        elif isinstance(node, ast.Call) and dotted(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else ""
            if isinstance(name, str) and _is_private(name):
                yield dotted(node.args[0]), name


def all_private_attributes(source: str) -> set[str]:
    """Every attribute with a leading underscore that a source reads on anything but ``self`` and ``cls``."""
    return {name for owner, name in _attributes(source) if owner not in ("self", "cls")}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def thresholds(source: str) -> list[str]:
    """Comparisons that decide something: by order with a fraction, or of a finding's measured numbers."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(
            isinstance(sign, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for sign in node.ops
        ):
            sides = [node.left, *node.comparators]
            fraction = any(isinstance(side, ast.Constant) and isinstance(side.value, float) for side in sides)
            if fraction or any("measured" in dotted(side).split(".") for side in sides):
                found.append(ast.unparse(node))
    return found
