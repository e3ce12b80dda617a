"""What the frames of an exception tell: where the user's code was, in which module, and which tensors were at hand."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

from torch import Tensor, nn

from lightning_debug.evidence.errors import ErrorOperand
from lightning_debug.probes.error_operands import Names, operand
from lightning_debug.probes.source import display_path, is_library

STEPS = ("training_step", "validation_step", "test_step", "predict_step")
_LOADING = ("_next_data", "_process_data", "default_collate", "collate", "_process_next_batch")
_PLAIN = (bool, int, float, str)


@dataclass
class Scene:
    """Where an exception was raised.

    Args:
        phase: See ``ErrorRaised.phase``.
        line: The user's innermost line, ``file.py:31``.
        source: Its text, the whole statement on one line.
        function: The function it stands in.
        module: Path of the innermost module whose method ran.
        module_type: Its class name.
        module_about: How it prints.
        settings: Its numbers and switches.
        operation: The library function that refused.
        operands: Its tensors, or those that the user's line names.
        local: Variables of the user's innermost frame.
        in_collate: Whether torch's own collate function raised.
    """

    phase: str = ""
    line: str = ""
    source: str = ""
    function: str = ""
    module: str = ""
    module_type: str = ""
    module_about: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    operation: str = ""
    operands: tuple[ErrorOperand, ...] = ()
    local: Mapping[str, Any] = field(default_factory=dict)
    in_collate: bool = False


def frames_of(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    """Frames with the line each was at, outermost first."""
    found = []
    while traceback is not None:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def read_scene(error: BaseException, root: nn.Module | None, fields: list[tuple[str, Tensor]]) -> Scene:
    """Reads the frames of an exception."""
    frames = frames_of(error.__traceback__)
    scene = Scene(phase=_phase(error, frames))
    own = [(frame, line) for frame, line in frames if not is_library(frame.f_code.co_filename) and _is_file(frame)]
    if own:
        frame, line = own[-1]
        scene.line = f"{display_path(frame.f_code.co_filename)}:{line}"
        scene.source = statement(frame, line)
        scene.function = frame.f_code.co_name
        scene.local = dict(frame.f_locals)
    scene.in_collate = bool(frames) and frames[-1][0].f_code.co_filename.endswith("collate.py")
    names = Names(root, fields)
    _read_module(scene, frames, root)
    _read_call(scene, frames, own, names)
    return scene


def _is_file(frame: FrameType) -> bool:
    return not frame.f_code.co_filename.startswith("<")


_FUNCTIONS = "torch/autograd/function.py"
"""Where the ``backward`` of somebody's own ``autograd.Function`` is called."""


def _phase(error: BaseException, frames: list[tuple[FrameType, int]]) -> str:
    names = [frame.f_code.co_name for frame, _ in frames]
    files = [frame.f_code.co_filename.replace("\\", "/") for frame, _ in frames]
    if "DataLoader worker process" in str(error) or any(
        name in _LOADING and "torch/utils/data" in file for name, file in zip(names, files, strict=True)
    ):
        return "data"
    if any("torch/autograd/" in file and name != "__torch_function__" for name, file in zip(names, files, strict=True)):
        autograd = max(i for i, file in enumerate(files) if "torch/autograd/" in file)
        if all("torch/" in file for file in files[autograd:]) and names[autograd] in (
            *("_engine_run_backward", "backward", "_make_grads", "grad"),
        ):
            return "backward"
        own = any(name == "apply" and file.endswith(_FUNCTIONS) for name, file in zip(names, files, strict=True))
        if own and "_engine_run_backward" in names:
            return "backward"
    if "Error(s) in loading state_dict" in str(error) and "load_state_dict" in names:
        return "loading"
    step = next((name for name in reversed(names) if name in STEPS), None)
    if step is not None:
        return step
    if "configure_optimizers" in names:
        return "configure_optimizers"
    if "model_to_device" in names:
        return "moving"
    if files and "torch/optim/" in files[-1]:
        return "optimizer"
    return ""


def _read_module(scene: Scene, frames: list[tuple[FrameType, int]], root: nn.Module | None) -> None:
    paths = {id(module): name for name, module in root.named_modules()} if root is not None else {}
    for frame, _ in reversed(frames):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and id(owner) in paths and frame.f_code.co_name not in ("_call_impl",):
            describe_module(scene, owner, paths[id(owner)])
            return
    for frame, _ in reversed(frames):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):  # made in the step, or kept in a list: no part of the model
            describe_module(scene, owner, "")
            return


def describe_module(scene: Scene, module: nn.Module, path: str) -> None:
    """Notes a module in a scene."""
    scene.module, scene.module_type = path, type(module).__name__
    scene.module_about, scene.settings = about(module)


def about(module: nn.Module) -> tuple[str, dict[str, str]]:
    """How a module prints, and its public numbers and switches.

    >>> about(nn.Linear(2, 3))[1]["in_features"]
    '2'
    """
    text = "" if next(module.children(), None) is not None else repr(module)
    values = {}
    for name, value in vars(module).items():
        plain = isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(isinstance(v, _PLAIN) for v in value))
        if plain and not name.startswith("_"):
            values[name] = str(value)
    return text if "\n" not in text else "", values


def _read_call(
    scene: Scene, frames: list[tuple[FrameType, int]], own: list[tuple[FrameType, int]], names: Names
) -> None:
    """The library function called from the user's line with tensors, else the tensors that line names."""
    last = frames.index(own[-1]) if own else -1
    beyond = [
        frame for frame, _ in frames[last + 1 :] if not frame.f_code.co_name.startswith("_") and not _is_ours(frame)
    ]
    asked = next(
        (f for f in reversed(beyond) if f.f_code.co_name == "forward" and _is_layer(f.f_locals.get("self"))), None
    )
    within = beyond[beyond.index(asked) :] if asked is not None else []
    if asked is not None and all("torch/nn/modules" in f.f_code.co_filename.replace("\\", "/") for f in within):
        beyond = [asked]
    for frame in reversed(beyond):
        found = list(_tensor_arguments(frame, names, scene.local))
        if found:
            scene.operation = frame.f_code.co_name
            owner = frame.f_locals.get("self")
            if scene.operation == "forward" and isinstance(owner, nn.Module):
                scene.operation = type(owner).__name__
                found += _weight_of(owner, scene.module)
            scene.operands = tuple(found)
            break
    if own and not scene.operands:
        scene.operands = tuple(_named_on(scene.source, own[-1][0], names))


def _is_layer(owner: Any) -> bool:
    return isinstance(owner, nn.Module) and type(owner).__module__.startswith("torch.nn")


def _weight_of(owner: nn.Module, path: str) -> list[ErrorOperand]:
    """The first parameter of a layer of torch's, which a check of its own compares with."""
    named = next(((name, item) for name, item in owner.named_parameters(recurse=False)), None)
    if named is None or not _is_layer(owner):
        return []
    return [operand(named[1], f"{path}.{named[0]}" if path else named[0], "parameter", argument="weight")]


def _original(value: Tensor, local: Mapping[str, Any]) -> Tensor:
    """The user's tensor that a layer has given another dimension before its check."""
    base = value._base  # noqa: SLF001 - the only way to it
    for item in local.values():
        if isinstance(item, Tensor) and base is not None and item.ndim == value.ndim - 1:
            related = base is item or base is item._base  # noqa: SLF001
            if related and sorted((*item.shape, 1)) == sorted(value.shape):
                return item
    return value


def _is_ours(frame: FrameType) -> bool:
    return "lightning_debug" in frame.f_globals.get("__name__", "") or "lightning" in frame.f_globals.get(
        "__name__", ""
    )


def _tensor_arguments(frame: FrameType, names: Names, local: Mapping[str, Any]) -> Iterator[ErrorOperand]:
    code = frame.f_code
    for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        value = frame.f_locals.get(name)
        if isinstance(value, Tensor):
            value = _original(value, local)
            yield operand(value, *_name(names, value, local, name), argument=name)
        elif isinstance(value, (tuple, list)) and 0 < len(value) <= 64:
            for item in value:
                if isinstance(item, Tensor):
                    yield operand(item, *_name(names, item, local, name), argument=name)


def _name(names: Names, value: Tensor, local: Mapping[str, Any], otherwise: str) -> tuple[str, str]:
    name, kind = names.of(value, local, None)
    return name or otherwise, kind


def _named_on(source: str, frame: FrameType, names: Names) -> Iterator[ErrorOperand]:
    """Tensors whose name or attribute stands in a line of code."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            value = _look_up(node, frame)
            if isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                text = ast.unparse(node)
                name, kind = names.of(value, frame.f_locals, None)
                yield operand(value, name or text, kind, argument=text)


def _look_up(node: ast.expr, frame: FrameType) -> Any:
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _look_up(node.value, frame)
        if isinstance(owner, nn.Module):
            return getattr(owner, node.attr, None)
    return None


def statement(frame: FrameType, line: int) -> str:
    """The whole statement at a line, on one line; the line alone where it cannot be parsed."""
    single = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
    try:
        lines, first = inspect.getsourcelines(frame.f_code)
    except (OSError, TypeError):
        return single
    try:
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except SyntaxError:
        return single
    wanted = line - (first or 1) + 1
    simple = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, simple) and node.lineno <= wanted <= (node.end_lineno or node.lineno)
    ]
    if not around:
        return single
    node = min(around, key=lambda item: (item.end_lineno or 0) - item.lineno)
    return ast.unparse(node)
