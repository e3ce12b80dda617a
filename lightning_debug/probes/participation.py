"""Whether modules take part in a step: called in which mode, crossed by a gradient, stepped on by an optimizer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.hooks import RemovableHandle


@dataclass(eq=False)
class Part:
    """What was seen of one module.

    Args:
        module: The module.
        parameters: The parameters whose training it shapes: its own, or those around it.
        eval_calls: Forward calls in eval mode with gradients enabled.
        train_calls: Such calls in train mode.
        any_train_calls: Calls in train mode, gradients enabled or not.
        gradient: Whether a gradient came back through an output of an ``eval_calls`` call.
        flat: Whether such a call's output needed no gradient: nothing before it is trained, what follows may be.
        wanted: Identities of those parameters that required a gradient at such a call.
    """

    module: nn.Module
    parameters: tuple[nn.Parameter, ...]
    eval_calls: int = 0
    train_calls: int = 0
    any_train_calls: int = 0
    gradient: bool = False
    flat: bool = False
    wanted: frozenset[int] = field(default_factory=frozenset)

    def forget(self) -> None:
        """Begins anew: an optimizer has stepped on what was seen."""
        self.eval_calls = self.train_calls = self.any_train_calls = 0
        self.gradient = self.flat = False
        self.wanted = frozenset()


class Participation:
    """Watches calls of some modules between :meth:`start` and :meth:`stop`.

    It uses torch's hook for all modules, which, unlike hooks on modules, leaves no trace on the model, is not
    copied with it, and does not move PyTorch's transformer layers off their fused path.

    Args:
        parts: What to watch.
        ignore: Says that the call is not the run's own (an experiment), and is to be left out.
        others: Called with every module, and the positional arguments it was given, after its forward.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        ignore: Callable[[], bool] = lambda: False,
        others: Callable[[nn.Module, Any], None] | None = None,
    ) -> None:
        self.parts = {id(part.module): part for part in parts}
        self._ignore = ignore
        self._others = others
        self._handle: RemovableHandle | None = None

    def start(self) -> None:
        """Begins to watch; harmless when repeated."""
        if self._handle is None:
            self._handle = register_module_forward_hook(self._called)

    def stop(self) -> None:
        """Ends it; harmless when repeated."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _called(self, module: nn.Module, given: Any, output: Any) -> None:
        part = self.parts.get(id(module))
        if self._ignore():
            return
        try:
            if self._others is not None:
                self._others(module, given)
            if part is not None:
                self._note(part, output)
        except Exception:  # a note is not worth a run
            return

    @staticmethod
    def _note(part: Part, output: Any) -> None:
        part.any_train_calls += part.module.training
        if not torch.is_grad_enabled():
            return
        if part.module.training:
            part.train_calls += 1
            return
        part.eval_calls += 1
        if not part.wanted:
            part.wanted = frozenset(id(item) for item in part.parameters if item.requires_grad)
        if part.gradient:
            return
        tensors = list(_tensors(output))
        part.flat |= bool(tensors) and all(tensor.is_leaf for tensor in tensors)
        for tensor in tensors:
            if tensor.requires_grad and not tensor.is_leaf:
                tensor.register_hook(_Arrived(part))  # type: ignore[no-untyped-call]


class _Arrived:
    """Notes that a gradient came, and leaves it as it is."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def __call__(self, _: Tensor) -> None:
        self._part.gradient = True


class Draws:
    """Counts how often a module in train mode is given one and the same tensor: draws of a random output."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._most: dict[int, int] = {}

    def __call__(self, module: nn.Module, given: Any) -> None:
        """Takes one call."""
        tensor = next((item for item in given if isinstance(item, Tensor)), None) if module.training else None
        if tensor is None:
            return
        before, count = self._last.get(id(module), (None, 0))
        count = count + 1 if before is not None and before() is tensor else 1
        self._last[id(module)] = weakref.ref(tensor), count
        self._most[id(module)] = max(count, self._most.get(id(module), 1))

    def most(self, modules: Iterable[nn.Module]) -> int:
        """The largest count of any of them.

        >>> draws, layer, one = Draws(), nn.Dropout(), torch.ones(2)
        >>> for given in (one, one, one, torch.ones(2)):
        ...     draws(layer, (given,))
        >>> draws.most([layer, nn.Dropout()])
        3
        """
        return max((self._most.get(id(module), 1) for module in modules), default=1)


def _tensors(value: Any, depth: int = 4) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item, depth - 1)
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item, depth - 1)


def note_gradients(parts: Iterable[Part], *, calls_seen: bool) -> None:
    """Has parameters bear witness after a backward, where no gradient can come through the module's own output.

    That is where nothing before the module is trained (dropout on the input, or behind a frozen network), and
    where calls cannot be seen (``calls_seen=False``).
    """
    for part in parts:
        if not calls_seen:
            part.wanted = part.wanted | {id(item) for item in part.parameters if item.requires_grad}
        if not part.gradient and (part.flat or not calls_seen):
            part.gradient = any(item.requires_grad and item.grad is not None for item in part.parameters)
