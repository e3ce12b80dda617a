"""Modules whose training mode matters, and what can be said about each from the module tree alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from lightning_debug.probes.bytecode import mentioned, plain_function, reached, reads_own
from lightning_debug.probes.dropout_source import FUNCTIONS
from lightning_debug.probes.source import is_library

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_KNOB = re.compile(r"^p$|drop|prob")
_READS: WeakKeyDictionary[type, bool] = WeakKeyDictionary()
_PINS: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


@dataclass(eq=False)
class ModeModule:
    """A module that computes something else in eval mode than in train mode.

    Args:
        path: As in ``named_modules`` of the model, without the names of wrappers.
        module: The module.
        role: ``"dropout"``, ``"batch-norm"``, ``"recurrent"``, ``"attention"``, ``"activation"`` or ``"custom"``.
        parents: From the model down to the module's parent.
    """

    path: str
    module: nn.Module
    role: str
    parents: tuple[tuple[str, nn.Module], ...]

    @property
    def alone(self) -> bool:
        """Whether its parent is in the other mode."""
        return bool(self.parents) and self.parents[-1][1].training != self.module.training

    @property
    def hollow(self) -> bool:
        """Whether a module inside it is in the other mode: its own flag was set by hand."""
        return next(self.module.children(), None) is not None and any(
            child.training != self.module.training for child in self.module.modules()
        )

    @property
    def root(self) -> str:
        """The outermost module around it that is, with all between, in the same mode: where the mode was set."""
        path = self.path
        for name, parent in reversed(self.parents):
            if parent.training != self.module.training:
                break
            path = name
        return path

    def parameters(self) -> list[nn.Parameter]:
        """Its own parameters, or where it has none those of the nearest module around it that has some."""
        for module in (self.module, *(parent for _, parent in reversed(self.parents))):
            found = list(module.parameters())
            if found:
                return found
        return []

    @property
    def pinned(self) -> str:
        """Class name of the nearest module, itself included, whose own ``train()`` keeps parts in eval, or ``""``."""
        for module in (self.module, *(parent for _, parent in reversed(self.parents))):
            if _pins(type(module)):
                return type(module).__name__
        return ""

    @property
    def pretrained(self) -> tuple[str, str]:
        """Path and class name of the outermost Hugging Face model around it, or two empty strings."""
        for path, module in (*self.parents, (self.path, self.module)):
            if any(kind.__name__ == "PreTrainedModel" for kind in type(module).__mro__):
                return path, type(module).__name__
        return "", ""


def mode_modules(model: nn.Module) -> list[ModeModule]:
    """Every module whose mode matters. Networks inside torchmetrics and TorchScript modules are left out."""
    return list(_walk("", model, ()))


def _walk(path: str, module: nn.Module, parents: tuple[tuple[str, nn.Module], ...]) -> Iterator[ModeModule]:
    stack, seen = [(path, module, parents)], set()
    while stack:
        path, module, parents = stack.pop()
        if id(module) in seen or isinstance(module, torch.jit.ScriptModule) or _is_metric(module):
            continue
        seen.add(id(module))
        role = mode_role(module)
        if role:
            yield ModeModule(path, module, role, parents)
        inner = (*parents, (path, module))
        stack += [(_join(path, name), child, inner) for name, child in reversed(list(module.named_children()))]


def clean_path(path: str) -> str:
    """A module's path without the names that compilation, sharding and checkpointing put into it.

    >>> clean_path("net._orig_mod.0"), clean_path("_orig_mod")
    ('net.0', '')
    """
    full = f"{path}."
    for wrapper in WRAPPERS:
        full = full.replace(wrapper, "")
    return full.rstrip(".")


def _join(path: str, name: str) -> str:
    return clean_path(f"{path}.{name}" if path else name)


def _is_metric(module: nn.Module) -> bool:
    return any(kind.__module__.partition(".")[0] == "torchmetrics" for kind in type(module).__mro__)


def mode_role(module: nn.Module) -> str:
    """What makes the module's mode matter, or ``""`` where it does not.

    >>> [mode_role(item) for item in (nn.Dropout(0.1), nn.Dropout(0.0), nn.BatchNorm1d(3), nn.Linear(2, 2))]
    ['dropout', '', 'batch-norm', '']
    """
    role = _torch_role(module)
    kind = type(module)
    if "forward" not in vars(module) and _is_torch(getattr(kind.forward, "__module__", "") or ""):
        return role  # torch's own classes read self.training for other reasons too (choice of a fused kernel)
    if not reads_training(module):
        return ""
    if role:
        return role
    if _drops(module):
        return "dropout"
    knobs = [value for name, value in vars(module).items() if _KNOB.search(name) and type(value) in (int, float)]
    return "" if knobs and not any(knobs) else "custom"


def _torch_role(module: nn.Module) -> str:
    if isinstance(module, _DropoutNd):
        return "dropout" if module.p > 0 else ""
    if isinstance(module, _NormBase):
        return "batch-norm" if module.track_running_stats and module.running_mean is not None else ""
    if isinstance(module, nn.RNNBase):
        return "recurrent" if module.dropout > 0 and module.num_layers > 1 else ""
    if isinstance(module, nn.MultiheadAttention):
        return "attention" if module.dropout > 0 else ""
    return "activation" if isinstance(module, nn.RReLU) and module.lower != module.upper else ""


def _is_torch(name: str) -> bool:
    return name == "torch" or name.startswith("torch.")


def reads_training(module: nn.Module) -> bool:
    """Whether the module's ``forward``, or a method it calls, reads ``self.training`` other than for checkpointing."""
    kind = type(module)
    if "forward" in vars(module):
        return _reads(vars(module)["forward"], kind)
    if kind not in _READS:
        _READS[kind] = _reads(kind.forward, kind)
    return _READS[kind]


def _reads(forward: object, kind: type) -> bool:
    function = plain_function(forward)
    if function is None:
        return False
    for inner in reached(function, kind):
        names = inner.__code__.co_names
        if any("checkpoint" in name for name in names):
            continue
        if reads_own(inner, "training") or ("super" in names and issubclass(kind, (_DropoutNd, _NormBase))):
            return True
    return False


def _drops(module: nn.Module) -> bool:
    """Whether its code calls dropout, as a function or as a layer."""
    function = plain_function(vars(module).get("forward", type(module).forward))
    if function is None:
        return False
    return any(FUNCTIONS.intersection(mentioned(inner)) for inner in reached(function, type(module)))


def _pins(kind: type[nn.Module]) -> bool:
    if kind not in _PINS:
        function = plain_function(kind.train)
        own = function is not None and not is_library(function.__code__.co_filename)
        if function is None or not own or function.__module__ == "transformers.modeling_utils":
            _PINS[kind] = False  # Hugging Face's base class overrides train() for another reason
        else:
            forces = any(constant is False for constant in function.__code__.co_consts)
            _PINS[kind] = forces or any("eval" in inner.__code__.co_names for inner in reached(function, kind))
    return _PINS[kind]


def scripted_in_eval(model: nn.Module) -> int:
    """How many TorchScript modules with trainable parameters are in eval mode: what they hold cannot be seen."""
    return sum(
        isinstance(module, torch.jit.ScriptModule)
        and not module.training
        and any(weight.requires_grad for weight in module.parameters(recurse=False))
        for module in model.modules()
    )


def is_batch_norm(module: nn.Module) -> bool:
    """Whether it keeps running statistics that every forward in train mode updates."""
    return isinstance(module, _NormBase) and module.track_running_stats and module.running_mean is not None


def frozen_batch_norm(module: nn.Module) -> bool:
    """Whether it is a batch-norm in train mode whose weights are frozen and whose statistics are live."""
    if not isinstance(module, _BatchNorm) or not module.training or not is_batch_norm(module) or module.momentum == 0.0:
        return False
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
