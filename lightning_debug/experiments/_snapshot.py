"""Snapshot: objects and all that they reach, remembered in place and put back bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from lightning_debug.callbacks._lightning_state import role
from lightning_debug.experiments import _code, _kinds
from lightning_debug.experiments._code import StepCode
from lightning_debug.experiments._paths import Manner
from lightning_debug.experiments._tensors import detached, restore_versions
from lightning_debug.experiments._walk import LIMIT, Walk

_ASKED = ("forward", "step", "get_lr")
"""Methods that are called, beside special ones, where data, transforms and copies of schedulers are asked."""


class Snapshot:
    """Remembers objects and, on :meth:`restore`, puts them back.

    Args:
        offload: Device for the copies of tensors; by default they stay where they are.
        limit: How many objects to look at; more are refused.
        asked: Whether data among it will be asked for samples, which must not show afterwards.
    """

    def __init__(self, offload: str | None = None, limit: int = LIMIT, *, asked: bool = False) -> None:
        self._walk = Walk(offload, limit, asked=asked)

    @property
    def reasons(self) -> list[str]:
        """What cannot be put back: paths and types. Empty if all can."""
        return self._walk.reasons

    def add(self, root: Any, name: str, *, lenient: bool = False, copies: bool = True) -> None:
        """Remembers an object and all that it reaches.

        Args:
            root: Where to start.
            name: What to call it in reasons.
            lenient: Whether to pass over what cannot be put back instead of refusing.
            copies: Whether to copy the bytes of tensors and arrays; without, only who holds which is kept.
        """
        with _bare():
            self._walk.walk(root, name, Manner(lenient, copies))

    def add_code(self, entries: frozenset[str]) -> None:
        """Remembers what the code of the user's classes met so far holds outside of objects.

        Args:
            entries: Names of the methods that will be called.
        """
        code = StepCode(entries)
        self._follow(code, self._walk.classes, Manner())
        self._walk.reasons.extend(code.reasons)

    def add_call(self, function: Any, name: str, *, copies: bool = True) -> None:
        """Remembers what a function, or an object that will be asked, holds and reaches; passes over what it must.

        Args:
            function: Also a method, a partial, or an object that is called or indexed.
            name: What to call it.
            copies: Whether to copy the bytes of its tensors and arrays.
        """
        self.add(function, name, lenient=True, copies=copies)
        self._follow(StepCode(_ASKED), self._walk.data_classes, Manner(lenient=True))

    def join(self, other: Snapshot) -> None:
        """Puts back what the other remembers as well."""
        mine, its = self._walk, other._walk
        mine.keepers += its.keepers
        mine.generators += its.generators
        mine.faces += its.faces
        mine.holders += its.holders
        mine.attached |= its.attached
        mine.reasons += its.reasons
        mine.storages = {**its.storages, **mine.storages}

    def _follow(self, code: StepCode, classes: Iterable[type], how: Manner) -> None:
        with _bare():
            while code.grow(classes, self._walk.functions):
                for kind in code.kinds():
                    self._walk.kind(kind, how)
                for function in code.new_functions():
                    self._walk.function(function, (None, function.__qualname__), how)
                for namespace, name, label in code.new_variables():
                    self._walk.variable(namespace, name, label, how)

    def restore(self) -> None:
        """Puts everything back.

        Raises:
            RuntimeError: If something could not be put back; all the rest was.
        """
        walk, failed = self._walk, []
        with _bare():
            for keeper in [*walk.keepers, *walk.generators, *walk.faces, *walk.storages.values()]:
                try:
                    keeper.restore()
                except Exception as error:
                    failed.append(f"{type(keeper).__name__}: {error}")
            restore_versions(walk.faces)
        if failed:
            raise RuntimeError(f"could not put back all of the run's state: {'; '.join(failed[:5])}")

    def reseed(self) -> None:
        """Puts only the random generators back."""
        for keeper in self._walk.generators:
            keeper.restore()

    def clear_gradients(self) -> None:
        """Takes the gradients away; :meth:`restore` brings them back."""
        for face in self._walk.faces:
            if face.grad is not None:
                face.target.grad = None

    def detach(self) -> None:
        """Takes tensors that are held with their graph off it, so that no backward pass runs into the graph."""
        for keeper in self._walk.holders if self._walk.attached else ():
            values = [detached(value) for value in keeper.values]
            if any(new is not old for new, old in zip(values, keeper.values, strict=True)):
                keeper.fill(values)


@contextlib.contextmanager
def _bare() -> Iterator[None]:
    """Tensors as they are: no autograd, no modes, no subclass's ideas."""
    with torch.inference_mode(False), torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        yield


def forget_classes() -> None:
    """Lets go of the classes that were met: what a program's class refers to would live as long as the process."""
    for cache in (_kinds.slots_of, _kinds._is_leaf_kind, _code._names, role):
        cache.cache_clear()
