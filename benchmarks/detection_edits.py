"""The programs of the folder ``detection`` as two programs each, what separates them, and what their scores say.

A program says ``FAULT = "--repaired" not in sys.argv`` and asks for it where the fault is. `folded` puts a constant in
its place and drops what is never run, which gives the broken program as a user would have written it, and its twin.
"""

from __future__ import annotations

import ast
import collections
import difflib
import io
import keyword
import math
import re
import tokenize

import torch
from torch import nn

MARGIN = 0.1
"""Share of what training gains the twin that a score may miss."""

SHARE = 0.8
"""Share of the distance between broken and twin that a fix has to bring back."""


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
        body = getattr(node, "body", None)
        if isinstance(body, list):  # what stands below a return would tell the reader of the repair
            ends = next((at for at, one in enumerate(body) if isinstance(one, (ast.Return, ast.Raise))), len(body))
            node.body = body[: ends + 1] or [ast.Pass()]
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
    words = [token.string for token in tokens if token.type == tokenize.NAME and not keyword.iskeyword(token.string)]
    keys = [key for word in re.findall(r"'([^']*)'", source) for key in re.findall(r"[A-Za-z_]\w*", word)]
    return collections.Counter([*words, *keys])


def changed_names(broken: str, twin: str) -> set[str]:
    """Names that one of the two programs uses more often than the other."""
    before, after = _names(broken), _names(twin)
    return set(before - after) | set(after - before)


def code_words(text: str) -> set[str]:
    """Words of a text that are code: in backticks or quotes, called, dotted, with an underscore, or known to torch."""
    words = {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[A-Za-z_]\w*", quoted)}
    words |= set(re.findall(r"[A-Za-z_]\w*(?=\(|=)", text)) | set(re.findall(r"['\"]([A-Za-z_]\w*)['\"]", text))
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


def bare(fix: str) -> str:
    """A fix without the numbers and places in it, which differ between runs and versions."""
    return re.sub(r"\s+", " ", re.sub(r"[\w/.]*\.py:\d+|[-+]?\d[\d.,e+-]*", "#", fix)).strip()


def deciding(found: dict[str, float] | None) -> str:
    """The score that counts: a loss before anything else."""
    names = sorted(found or {})
    losses = [name for name in names if re.search(r"loss|nll|mse|mae|error|bce|elbo|_ce|cost", name.lower())]
    return (losses or names or [""])[0]


def distance(metric: str, value: float, best: float) -> float:
    """How much worse a score is than another; scores that are no loss are better when larger."""
    rising = bool(re.search(r"acc|auc|f1|reward|dice|iou|score|r2", metric.lower())) and "loss" not in metric.lower()
    return best - value if rising else value - best


def worse(metric: str, part: str, values: dict[str, float | None]) -> bool:
    """Whether a score misses more than ``MARGIN`` of what training gains the twin."""
    value, twin, untrained = values[part], values["twin"], values["untrained"]
    if twin is None or not math.isfinite(twin):
        return False
    if value is None or not math.isfinite(value):
        return True
    gain = abs(twin) if untrained is None or not math.isfinite(untrained) else distance(metric, untrained, twin)
    return distance(metric, value, twin) > MARGIN * max(gain, 1e-3)


def back(metric: str, values: dict[str, float | None], *, raised: bool) -> bool:
    """Whether the fixed program is as good as its twin, or nearly as far from the broken one as it is."""
    broken, fixed, twin = values["broken"], values["fixed"], values["twin"]
    if twin is None:
        return raised  # it runs to its end now, and there is nothing to compare
    if not worse(metric, "fixed", values):
        return True
    if fixed is None or broken is None or not math.isfinite(fixed) or not math.isfinite(broken):
        return False
    gap = distance(metric, broken, twin)
    return distance(metric, broken, fixed) >= SHARE * gap > 0
