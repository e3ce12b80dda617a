"""Calls of dropout as a function, read from source: which of them leave the mode out of account?"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lightning_debug.probes.bytecode import captured, mentioned, mentions, plain_function, reached
from lightning_debug.probes.source import display_path, is_library

ATTENTION = "scaled_dot_product_attention"
WITH_DEFAULT_FALSE = frozenset({"alpha_dropout", "feature_alpha_dropout"})
_DROPS = (
    "dropout alpha_dropout dropout1d dropout2d dropout3d feature_alpha_dropout feature_dropout native_dropout"
).split()
FUNCTIONS = frozenset({*_DROPS, *(f"{name}_" for name in _DROPS), ATTENTION, "multi_head_attention_forward"})
"""Functions of torch that drop values when asked to."""

_TORCHS = {
    id(getattr(place, name)): name for place in (torch, functional) for name in FUNCTIONS if hasattr(place, name)
}
_LAYERS = frozenset("Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout".split())
_ROOTS = ("F", "functional", "torch", "nn")


def mode_ignoring_call(model: nn.Module) -> str:
    """``file.py:31`` of the first dropout in the model's code that may ignore the mode, or ``""`` when all obey it.

    A call obeys the mode when its ``training`` (or ``dropout_p``) is made from an attribute ``training``. Calls that
    cannot be read count as ignoring it. Code of torch, Lightning and torchmetrics is left out.
    """
    seen: set[object] = set()
    for kind in {type(module): None for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)}:
        for value in (value for base in kind.__mro__ for value in vars(base).values()):
            function = plain_function(value)
            if function is None or function in seen or is_library(function.__code__.co_filename):
                continue
            for inner in reached(function, kind):
                if inner not in seen:
                    seen.add(inner)
                    line = _ignoring_line(inner)
                    if line:
                        return line
    return ""


def _ignoring_line(function: FunctionType) -> str:
    """The first call in one function that may ignore the mode."""
    known = {**function.__globals__, **captured(function)}
    names = mentioned(function)
    makes = function.__name__ != "__init__" and not _LAYERS.isdisjoint(names)
    if not makes and not FUNCTIONS.intersection(names) and not any(id(known.get(name)) in _TORCHS for name in names):
        return ""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, or generated
        return mentions(function, FUNCTIONS)
    layers = {name for node in ast.walk(tree) for name in _names_of_new_layers(node)} if makes else set()
    obeying = {name for node in ast.walk(tree) for name in _made_from_mode(node)}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            name = _dropout_name(call.func, known)
            new = makes and (_is_new_layer(call.func) or (isinstance(call.func, ast.Name) and call.func.id in layers))
            if new or (name and not _obeys(name.rstrip("_"), call, obeying)):
                line = function.__code__.co_firstlineno + call.lineno - 1
                return f"{display_path(function.__code__.co_filename)}:{line}"
    return ""


def _is_new_layer(node: ast.AST | None) -> bool:
    """Whether an expression makes a dropout layer: ``nn.Dropout(0.5)``."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in _LAYERS


def _names_of_new_layers(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Assign) and _is_new_layer(node.value):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _mentions_mode(node: ast.AST | None, obeying: Collection[str] = ()) -> bool:
    return node is not None and any(
        (isinstance(part, ast.Attribute) and part.attr == "training")
        or (isinstance(part, ast.Name) and part.id in obeying)
        for part in ast.walk(node)
    )


def _made_from_mode(node: ast.AST) -> Iterator[str]:
    """Names that a statement makes from the mode: ``p = self.p if self.training else 0.0``."""
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)) and _mentions_mode(node.value):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.If) and _mentions_mode(node.test):  # if self.training: p = self.p
        for part in ast.walk(node):
            if isinstance(part, ast.Assign):
                yield from (target.id for target in part.targets if isinstance(target, ast.Name))


def _dropout_name(called: ast.expr, known: Mapping[str, Any]) -> str:
    """The function of torch that an expression calls, or ``""``: a layer such as ``self.dropout`` is none."""
    path: list[str] = []
    while isinstance(called, ast.Attribute):
        path.insert(0, called.attr)
        called = called.value
    if not isinstance(called, ast.Name):
        return ""
    if called.id not in known:  # imported within the function, or an object of its own
        return path[-1] if called.id in _ROOTS and path and path[-1] in FUNCTIONS else ""
    value = known[called.id]
    for name in path:
        value = getattr(value, name, None)
    return _TORCHS.get(id(value), "")


def _obeys(name: str, call: ast.Call, obeying: Collection[str]) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if None in given or any(isinstance(item, ast.Starred) for item in call.args):
        return False
    words: tuple[str, ...] = ("training", "train")
    position, active = 2, name not in WITH_DEFAULT_FALSE
    if name == ATTENTION:
        position, words, active = 4, ("dropout_p",), False
    elif name == "multi_head_attention_forward":
        position = 13
    value = next((given[word] for word in words if word in given), None)
    if value is None and len(call.args) > position:
        value = call.args[position]
    if value is None:
        return not active
    return _mentions_mode(value, obeying) or (isinstance(value, ast.Constant) and not value.value)
