"""Tells watches of the steps of all optimizers, in programs of several training threads too.

torch goes through its hooks for all optimizers in every step, and raises in a thread that is on its way through them
while another adds or removes one. So all watches share one pair of hooks, which stays as long as other threads step.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook


class Watcher(Protocol):
    """What hears of the steps that are made in the thread in which it began to listen."""

    def before_step(self, optimizer: Any) -> None:
        """Called when an optimizer begins a step."""

    def after_step(self, optimizer: Any) -> None:
        """Called when it has made it."""


_LOCK = threading.RLock()
_watchers: dict[Watcher, int] = {}
_strangers: set[int] = set()
_handles: list[Any] = []


def listen(watcher: Watcher) -> None:
    """Has a watcher hear of this thread's steps; harmless when repeated."""
    with _LOCK:
        _watchers[watcher] = threading.get_ident()
        if not _handles:
            _handles.append(register_optimizer_step_pre_hook(_before))
            _handles.append(register_optimizer_step_post_hook(_after))


def leave(watcher: Watcher) -> None:
    """Ends that; harmless when repeated. The last to leave takes the hooks off, unless another thread has stepped."""
    with _LOCK:
        own = _watchers.pop(watcher, None)
        if own is None or _watchers:
            return
        if not _strangers - {own}:
            while _handles:
                _handles.pop().remove()
        _strangers.clear()


def _here() -> list[Watcher]:
    here, listening = threading.get_ident(), list(_watchers.items())
    found = [watcher for watcher, home in listening if home == here]
    if not found:
        _strangers.add(here)
    return found


def _before(optimizer: Any, *_: Any) -> None:
    for watcher in _here():
        watcher.before_step(optimizer)


def _after(optimizer: Any, *_: Any) -> None:
    for watcher in _here():
        watcher.after_step(optimizer)
