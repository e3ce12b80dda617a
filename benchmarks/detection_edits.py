"""The programs of the folder ``detection`` as two programs each, and what separates them.

A program says ``FAULT = "--repaired" not in sys.argv`` and asks for it where the fault is. `folded` puts a constant in
its place and drops what is never run, which gives the broken program as a user would have written it, and its twin.
"""

from __future__ import annotations

import ast
import collections
import difflib
import io
import keyword
import re
import tokenize

import torch
from torch import nn


class _Fold(ast.NodeTransformer):
    """Replaces ``FAULT`` by a constant and simplifies what depends on it alone."""

    def __init__(self, fault: bool) -> None:
        self.fault = fault

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return None if names == ["FAULT"] else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Constant(self.fault), node) if node.id == "FAULT" else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and (value := _known(node.operand)) is not None:
            return ast.copy_location(ast.Constant(not value), node)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        decides = isinstance(node.op, ast.Or)
        if any(_known(value) is decides for value in node.values):
            return ast.copy_location(ast.Constant(decides), node)
        open_ones = [value for value in node.values if _known(value) is None]
        if not open_ones:
            return ast.copy_location(ast.Constant(not decides), node)
        node.values = open_ones
        return node if len(open_ones) > 1 else open_ones[0]

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        value = _known(node.test)
        return node if value is None else node.body if value else node.orelse

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        value = _known(node.test)
        return node if value is None else node.body if value else node.orelse


def _known(node: ast.expr) -> bool | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, bool) else None


def folded(source: str, *, fault: bool) -> str:
    """The program with the fault, or its twin without it, as a text of its own."""
    tree = _Fold(fault).visit(ast.parse(source))
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list) and not node.body:
            node.body = [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def applied(source: str, edits: list[list[str]]) -> str:
    """The program after edits, pairs of a text that it holds exactly once and of what takes its place."""
    for old, new in edits:
        if source.count(old) != 1:
            raise ValueError(f"{old!r} is {source.count(old)} times in the program")
        source = source.replace(old, new)
    return source


def changed_lines(broken: str, twin: str) -> set[int]:
    """Lines of the broken program (from 1) that its twin changes; where it only adds, the two lines around it."""
    lines: set[int] = set()
    for tag, begin, end, _, _ in difflib.SequenceMatcher(
        None, broken.splitlines(), twin.splitlines(), autojunk=False
    ).get_opcodes():
        if tag == "insert":
            lines |= {begin, begin + 1}
        elif tag != "equal":
            lines |= set(range(begin + 1, end + 1))
    return lines


def _names(source: str) -> collections.Counter[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return collections.Counter(
        token.string for token in tokens if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    )


def changed_names(broken: str, twin: str) -> set[str]:
    """Names that one of the two programs uses more often than the other."""
    before, after = _names(broken), _names(twin)
    return set(before - after) | set(after - before)


def code_words(text: str) -> set[str]:
    """Words of a text that are code: in backticks, called, dotted, with an underscore, or an operation of torch."""
    words = {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[A-Za-z_]\w*", quoted)}
    words |= set(re.findall(r"[A-Za-z_]\w*(?=\(|=)", text))
    words |= {word for dotted in re.findall(r"\w+(?:\.\w+)+", text) for word in dotted.split(".")}
    plain = re.findall(r"[A-Za-z_]\w*", text)
    words |= {
        word
        for word in plain
        if "_" in word or any(hasattr(place, word) for place in (nn.functional, nn, torch.Tensor))
    }
    return {word for word in words if not word.isdigit() and word != "py"}


def names_the_edit(broken: str, twin: str, finding: dict) -> str:
    """How the fix of a finding points at what the twin changes: ``"line"``, ``"name"`` or ``""``."""
    told = f"{finding['subject']} {finding['fix']}"
    lines = {int(line) for line in re.findall(r"\.py:(\d+)", told)}
    if lines & changed_lines(broken, twin):
        return "line"
    words = code_words(f"{finding['fix']} `{finding['subject'].partition('.py:')[0]}`")
    text = [*broken.splitlines(), ""]
    near = " ".join(text[line - 1] for line in changed_lines(broken, twin) if 0 < line <= len(text))
    meant = changed_names(broken, twin) | set(re.findall(r"[A-Za-z_]\w*", near))
    return "name" if words & (meant - {"self", "torch", "nn", "F", "pl", "loss", "batch", "forward"}) else ""
