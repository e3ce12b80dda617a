"""Shadows: a method of one object is replaced for a while, and put back as it was."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from lightning_debug.callbacks._lightning import LightningModule, is_compiled
from lightning_debug.experiments.isolation import in_sandbox
from lightning_debug.probes.trace import changed_by_tracing, compiled_functions

_MISSING = object()


def may_be_traced(pl_module: LightningModule) -> bool:
    """Whether a step may run under a function mode: nothing is compiled, and no module computes otherwise under one."""
    return not (is_compiled(pl_module) or compiled_functions(pl_module) or changed_by_tracing(pl_module))


class Shadow:
    """Wraps ``owner.name`` until :meth:`remove`. Shadows nest, and may be removed in any order.

    Nothing is pickled or copied with the owner that would survive it: remove shadows before a hook returns
    control for long, and always in ``teardown`` and ``on_exception``.

    Args:
        owner: The object; only this instance is touched.
        name: The method's name.
        wrap: Receives the bound original and the call's arguments, and returns what the caller gets.

    >>> class Greeter:
    ...     def greet(self):
    ...         return "hello"
    >>> greeter = Greeter()
    >>> shadow = Shadow(greeter, "greet", lambda original: original().upper())
    >>> greeter.greet(), shadow.remove(), greeter.greet(), vars(greeter)
    ('HELLO', None, 'hello', {})
    """

    def __init__(self, owner: Any, name: str, wrap: Callable[..., Any]) -> None:
        self._owner, self._name = owner, name
        self._previous = vars(owner).get(name, _MISSING)
        original = getattr(owner, name)
        self.active = True
        outside = not in_sandbox()

        @functools.wraps(original)
        def shadowed(*args: Any, **kwargs: Any) -> Any:
            # Buried under a later shadow when it was removed, or met by an experiment, which is not the run's own step.
            if not self.active or (outside and in_sandbox()):
                return original(*args, **kwargs)
            return wrap(original, *args, **kwargs)

        if hasattr(original, "of"):  # Lightning looks one wrapper deep for a step's parameters
            shadowed.__wrapped__ = original.__wrapped__
        shadowed.of = self  # type: ignore[attr-defined]
        self._shadowed = shadowed
        vars(owner)[name] = shadowed

    def beneath(self) -> Any:
        """What it was put over, less shadows that were removed while they lay under it."""
        below = getattr(self._previous, "of", None)
        return below.beneath() if isinstance(below, Shadow) and not below.active else self._previous

    def remove(self) -> None:
        """Puts the original back; harmless when repeated."""
        if not self.active:
            return
        self.active = False
        if vars(self._owner).get(self._name) is not self._shadowed:
            return  # somebody wrapped us since: our wrapper only passes through from now on
        previous = self.beneath()
        if previous is _MISSING:
            del vars(self._owner)[self._name]
        else:
            vars(self._owner)[self._name] = previous
