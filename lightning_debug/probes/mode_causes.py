"""From "it was in train mode here and in eval mode there" to the hook, and the line, in which that happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import FunctionType

from lightning_debug.evidence.modes import ModeChange
from lightning_debug.probes.bytecode import mentions, plain_function
from lightning_debug.probes.mode_history import Change
from lightning_debug.probes.source import display_path, is_library
from lightning_debug.probes.train_calls import TrainCall

_START = (
    "setup configure_model configure_optimizers on_fit_start on_sanity_check_start on_sanity_check_end on_train_start"
).split()
_TRAIN = (
    "on_train_epoch_start on_train_batch_start training_step on_before_zero_grad on_before_backward "
    "on_after_backward on_before_optimizer_step on_train_batch_end on_train_epoch_end"
).split()
_VALIDATION = (
    "on_validation_start on_validation_epoch_start on_validation_batch_start validation_step "
    "on_validation_batch_end on_validation_epoch_end on_validation_end"
).split()
_SETS_EVAL = frozenset({"eval", "freeze"})
_SETS_TRAIN = frozenset({"train", "unfreeze"})


class UserHooks:
    """The user's overrides of a hook, by its name.

    Args:
        owners: The objects that have hooks, in the order in which they are called.
    """

    def __init__(self, owners: Callable[[], Iterable[object]]) -> None:
        self._owners = owners

    def __call__(self, name: str) -> Iterator[tuple[str, FunctionType, type]]:
        """Class name, function and class of each override."""
        for owner in self._owners():
            function = plain_function(getattr(type(owner), name, None))
            if function is not None and not is_library(function.__code__.co_filename):
                yield type(owner).__name__, function, type(owner)


def hooks_between(after: str, before: str) -> list[str]:
    """Names of the hooks that may have run from one look to the next; ``"capture"`` is where validation begins.

    >>> hooks_between("on_train_batch_start", "on_before_backward")
    ['on_train_batch_start', 'training_step', 'on_before_zero_grad', 'on_before_backward']
    >>> hooks_between("on_train_batch_end", "on_train_batch_start")
    ['on_train_batch_end', 'on_train_epoch_end', 'on_train_epoch_start', 'on_train_batch_start']
    """
    path: list[str] = []
    if after == "capture":
        path += _VALIDATION
        after = "on_sanity_check_end" if before in _START else "on_train_epoch_end"
    if before == "capture":
        before = "on_sanity_check_start" if after in _START else "on_train_batch_end"
    line = [*_START, *_TRAIN]
    here = line.index(after) if after in line else line.index("on_train_epoch_start")
    while len(path) < 40:
        path.append(line[here])
        if line[here] == before:
            break
        here = here + 1 if here + 1 < len(line) else line.index("on_train_epoch_start")
    return path


def eval_cause(change: Change, hooks: UserHooks, restored: bool) -> ModeChange:
    """How a module came into eval mode.

    Args:
        change: Between which looks, and the watched call.
        hooks: The user's overrides of a hook.
        restored: Whether Lightning notes modes when validation begins and puts them back.
    """
    epoch, step = change.before.epoch, change.before.step
    if change.after is None:
        return ModeChange(phase="before fit", epoch=epoch, step=step, restored=restored)
    override = next(iter(hooks("on_validation_model_train")), None)
    if change.after.hook == "capture" and override is not None and not _users(change.call):
        name, function, _ = override
        return _overridden(name, function, epoch, step)
    if change.call is not None and _users(change.call):
        return from_call(change.call, epoch, step, restored)
    for phase, where, line in _suspects(hooks_between(change.after.hook, change.before.hook), hooks, _SETS_EVAL):
        return ModeChange(phase=phase, epoch=epoch, step=step, hook=where, line=line, restored=restored)
    path = hooks_between(change.after.hook, change.before.hook)
    phase = "validation" if change.after.hook == "capture" else "training_step" if "training_step" in path else path[0]
    return ModeChange(phase=phase, epoch=epoch, step=step, restored=restored)


def train_cause(call: TrainCall | None, inside_step: bool, hooks: UserHooks, epoch: int, step: int) -> ModeChange:
    """How a module came into train mode during validation.

    Args:
        call: The watched call.
        inside_step: Whether it was in eval mode when the batch began.
        hooks: The user's overrides of a hook.
        epoch: Epoch.
        step: Batches trained on.
    """
    if call is not None and _users(call):
        return from_call(call, epoch, step, restored=False)
    override = next(iter(hooks("on_validation_model_eval")), None)
    if override is not None and not inside_step:
        name, function, _ = override
        return _overridden(name, function, epoch, step)
    for phase, where, line in _suspects(_VALIDATION, hooks, _SETS_TRAIN):
        return ModeChange(phase=phase, epoch=epoch, step=step, hook=where, line=line)
    return ModeChange(phase="validation_step" if inside_step else "validation", epoch=epoch, step=step)


def from_call(call: TrainCall, epoch: int, step: int, restored: bool) -> ModeChange:
    """The change that a watched call made."""
    return ModeChange(
        phase=call.name,
        epoch=epoch,
        step=step,
        hook=call.hook,
        line=call.line,
        via=call.via,
        through=call.through,
        watched=True,
        restored=restored,
    )


def _overridden(owner: str, function: FunctionType, epoch: int, step: int) -> ModeChange:
    name, line = function.__name__, _definition(function)
    return ModeChange(phase=name, epoch=epoch, step=step, hook=f"{owner}.{name}", line=line, override=name)


def _users(call: TrainCall | None) -> bool:
    return call is not None and bool(call.hook)


def _suspects(path: Iterable[str], hooks: UserHooks, names: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    for hook in path:
        for name, function, owner in hooks(hook):
            line = mentions(function, names, owner)
            if line:
                yield hook, f"{name}.{hook}", line


def _definition(function: FunctionType) -> str:
    return f"{display_path(function.__code__.co_filename)}:{function.__code__.co_firstlineno}"
