"""Which Trainers run in other threads of this process, as in a study that tries two settings at a time."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

_LOCK = threading.Lock()
_HOMES: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def note_thread(trainer: Any) -> None:
    """Notes in which thread a Trainer runs."""
    with _LOCK:
        _HOMES[trainer] = threading.get_ident()


def has_company() -> bool:
    """Whether a Trainer that was noted runs in another thread at this moment."""
    here = threading.get_ident()
    with _LOCK:
        others = [trainer for trainer, home in _HOMES.items() if home != here]
    return any(getattr(trainer.state.status, "value", trainer.state.status) == "running" for trainer in others)
