"""The learning rate that will happen: a private copy of a scheduler, stepped as the training loop will step it."""

from __future__ import annotations

import ast
import copy
import dis
import inspect
import textwrap
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lightning_debug.probes.update_ratio import plain_rate

MOST_STEPS = 4000
"""Steps simulated at most."""

POINTS = 120
"""Points kept of a curve."""

_LENGTHS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "OneCycleLR": ("total_steps", lambda item: item.total_steps),
    "CosineAnnealingLR": ("T_max", lambda item: item.T_max),
    "LinearLR": ("total_iters", lambda item: item.total_iters),
    "PolynomialLR": ("total_iters", lambda item: item.total_iters),
    "ConstantLR": ("total_iters", lambda item: item.total_iters),
    "StepLR": ("step_size", lambda item: item.step_size),
    "CyclicLR": ("step_size_up", lambda item: round(item.total_size * item.step_ratio)),
    "CosineAnnealingWarmRestarts": ("T_0", lambda item: item.T_0),
}

STEP_WORDS = (
    *(
        "estimated_stepping_batches",
        "total_steps",
        "num_training_steps",
        "steps_per_epoch",
        "warmup_steps",
        "max_steps",
    ),
    *("num_warmup_steps", "num_steps", "n_steps", "warm_steps", "num_training_batches", "training_steps", "iterations"),
    *("warmup_iters", "max_iters", "batches"),
)
EPOCH_WORDS = ("max_epochs", "num_epochs", "n_epochs", "epochs", "warmup_epochs", "epoch")
_OUTSIDE = frozenset({"trainer", "global_step", "current_epoch", "random", "time", "print", "log", "rand", "randn"})


class NotForeseen(Exception):
    """A schedule that cannot be simulated.

    Args:
        reason: Half a sentence that can follow "not judged, because".
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class _Stand:
    """In an optimizer's place: groups of its settings, without parameters."""

    def __init__(self, optimizer: Any) -> None:
        self.param_groups = [
            {"params": [], **{key: copy.deepcopy(value) for key, value in group.items() if key != "params"}}
            for group in optimizer.param_groups
        ]
        self.defaults = copy.deepcopy(getattr(optimizer, "defaults", {}))
        self.state: dict[Any, Any] = {}

    def step(self, closure: Any = None) -> None:
        """Does nothing."""

    def rate(self) -> float:
        """The highest learning rate of its groups."""
        return max((plain_rate(group.get("lr")) or 0.0 for group in self.param_groups), default=0.0)


def private_copy(scheduler: Any, keep: tuple[Any, ...] = ()) -> tuple[Any, Any]:
    """A copy of a scheduler that acts on a stand-in for its optimizer.

    Args:
        scheduler: The scheduler.
        keep: Objects that the copy may go on referring to (the model, the Trainer).

    Returns:
        The copy and the stand-in.

    Raises:
        NotForeseen: If stepping a copy might touch the run, or would not tell its rates.
    """
    optimizer = getattr(scheduler, "optimizer", None)
    if optimizer is None or not hasattr(optimizer, "param_groups"):
        raise NotForeseen(f"{type(scheduler).__name__} has no optimizer to read rates from")
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise NotForeseen("ReduceLROnPlateau depends on values that are not known yet")
    _refuse_impure(scheduler)
    stand = _Stand(optimizer)
    memo = {id(optimizer): stand, **{id(item): item for item in keep}}
    raw = getattr(optimizer, "_optimizer", None)
    if raw is not None:
        memo[id(raw)] = stand
    try:
        return copy.deepcopy(scheduler, memo), stand
    except Exception as error:
        raise NotForeseen(f"{type(scheduler).__name__} cannot be copied ({type(error).__name__})") from error


def _refuse_impure(scheduler: Any, depth: int = 3) -> None:
    for function in getattr(scheduler, "lr_lambdas", ()):
        code = getattr(getattr(function, "func", function), "__code__", None)
        if code is not None and (_OUTSIDE.intersection(code.co_names) or _writes(code)):
            raise NotForeseen("its function reads or writes the state of the run")
    for inner in getattr(scheduler, "_schedulers", ()) if depth else ():
        if isinstance(inner, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise NotForeseen("ReduceLROnPlateau depends on values that are not known yet")
        _refuse_impure(inner, depth - 1)


def _writes(code: Any) -> bool:
    stores = ("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR", "STORE_SUBSCR")
    return any(item.opname in stores for item in dis.get_instructions(code)) or "append" in code.co_names


def simulate(
    scheduler: Any, steps: int, due: Callable[[int], bool], keep: tuple[Any, ...] = (), most: int = MOST_STEPS
) -> list[float]:
    """The learning rate at each optimizer step, as the loop will set it.

    Args:
        scheduler: The scheduler; only a copy of it is stepped.
        steps: Optimizer steps.
        due: Whether the scheduler steps after the optimizer step of that number, from 0.
        keep: As in :func:`private_copy`.
        most: Optimizer steps simulated at most.

    Returns:
        One rate a step, the highest of the groups; shorter than ``steps`` where the schedule would raise.

    Raises:
        NotForeseen: If it cannot be simulated.
    """
    twin, stand = private_copy(scheduler, keep)
    rates: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(min(steps, most)):
            rates.append(stand.rate())
            if due(step):
                try:
                    twin.step()
                except ValueError:  # OneCycleLR beyond its total_steps
                    break
                except Exception as error:
                    raise NotForeseen(
                        f"{type(scheduler).__name__} raises {type(error).__name__} when stepped"
                    ) from error
    return rates


def thinned(rates: list[float]) -> tuple[tuple[int, float], ...]:
    """At most about 120 points of a curve, its first and its last included.

    >>> thinned([0.1, 0.2])
    ((0, 0.1), (1, 0.2))
    """
    stride = max(1, len(rates) // POINTS)
    steps = sorted({*range(0, len(rates), stride), len(rates) - 1}) if rates else []
    return tuple((step, rates[step]) for step in steps)


def length_of(scheduler: Any) -> tuple[int | None, str]:
    """How many steps a schedule was built for, and which argument says so."""
    for kind in type(scheduler).__mro__:
        known = _LENGTHS.get(kind.__name__)
        if known is not None:
            name, read = known
            return int(read(scheduler)), name
    return None, ""


def base_of(scheduler: Any) -> float | None:
    """The learning rate that a schedule is a part of: that of the optimizer, or the peak that it was given."""
    groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", ())
    found = [plain_rate(group.get("max_lr", group.get("initial_lr"))) for group in groups]
    known = [rate for rate in found if rate is not None]
    return max(known, default=None)


def gamma_of(scheduler: Any) -> float | None:
    """The factor by which a schedule multiplies rates."""
    gamma = getattr(scheduler, "gamma", None)
    known = type(scheduler).__name__ in ("ExponentialLR", "StepLR", "MultiStepLR")
    return float(gamma) if known and isinstance(gamma, (int, float)) else None


def milestones_of(scheduler: Any) -> tuple[int, ...]:
    """The steps at which a scheduler of listed milestones changes."""
    found = getattr(scheduler, "milestones", None) if type(scheduler).__name__ == "MultiStepLR" else None
    return tuple(sorted(int(item) for item in found)) if found else ()


def _source(function: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""


def decides_itself(function: Any) -> bool:
    """Whether a method that steps a scheduler asks its object when to (``if self.trainer.is_last_batch``)."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    if str(getattr(function, "__module__", "")).partition(".")[0] in ("pytorch_lightning", "lightning"):
        return False
    try:
        tree = ast.parse(_source(function))
    except SyntaxError:
        return False
    heads = [node.args.args for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    first = heads[0][0].arg if heads and heads[0] else "self"
    return any(isinstance(node, ast.Name) and node.id == first for node in ast.walk(tree))


def words_of(function: Any) -> tuple[str, ...]:
    """The identifiers and keys in a function's source that tell whether its author counts steps or epochs."""
    try:
        tree = ast.parse(_source(function))
    except SyntaxError:
        return ()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, (ast.keyword, ast.arg)):
            names.add(node.arg or "")
    return tuple(word for word in (*STEP_WORDS, *EPOCH_WORDS) if word in names)


def misplaced_keys(function: Any) -> Mapping[str, str]:
    """Keys for a scheduler that stand beside ``"optimizer"`` in a dictionary that a function writes out.

    Returns:
        Key and value, as text.
    """
    try:
        tree = ast.parse(_source(function))
    except SyntaxError:
        return {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = {key.value: value for key, value in zip(node.keys, node.values, strict=True)
                     if isinstance(key, ast.Constant)}  # fmt: skip
            if "optimizer" in pairs and "lr_scheduler" in pairs:
                return {
                    name: str(value.value) if isinstance(value, ast.Constant) else ast.unparse(value)
                    for name, value in pairs.items()
                    if name in ("interval", "frequency")
                }
    return {}


def place_of(function: Any) -> str:
    """``file.py:31`` of a function."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return ""
    return f"{code.co_filename.replace(chr(92), '/').rpartition('/')[2]}:{code.co_firstlineno}"


def keepers(root: nn.Module, trainer: Any) -> tuple[Any, ...]:
    """What copies of schedulers may refer to: the model, its modules and parameters, the Trainer."""
    return (trainer, root, *root.modules(), *root.parameters())
