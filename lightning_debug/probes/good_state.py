"""The last good weights and optimizer states of a run, to go back to."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class GoodState:
    """A copy of all parameters, buffers and optimizer states, where they live.

    Learning rates and the other options of the optimizers' groups are not part of it: a schedule goes on.

    Args:
        root: The model.
        optimizers: Its optimizers.

    >>> layer = nn.Linear(1, 1)
    >>> kept = GoodState(layer, [])
    >>> kept.keep()
    >>> _ = layer.weight.data.fill_(torch.nan)
    >>> kept.restore()
    >>> bool(layer.weight.isfinite().all())
    True
    """

    def __init__(self, root: nn.Module, optimizers: Sequence[Any]) -> None:
        self._root, self._optimizers = root, optimizers
        self._values: list[tuple[dict[str, Any], str, Tensor]] = []
        self._states: list[dict[Any, dict[str, Any]]] = []

    @property
    def held(self) -> bool:
        """Whether there is anything to go back to."""
        return bool(self._values)

    @torch.no_grad()
    def keep(self) -> None:
        """Copies all as it is now. Nothing is read on the host."""
        before = {(id(owner), name): saved for owner, name, saved in self._values}
        self._values = [
            (owner, name, _copied(value, before.get((id(owner), name)))) for owner, name, value in self._live()
        ]
        earlier = self._states or [{} for _ in self._optimizers]
        self._states = [
            {
                key: {name: _copied(item, old.get(key, {}).get(name)) for name, item in held.items()}
                for key, held in optimizer.state.items()
            }
            for optimizer, old in zip(self._optimizers, earlier, strict=True)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Puts it back, into the same tensors."""
        for owner, name, saved in self._values:
            owner[name] = _into(owner.get(name), saved)
        for optimizer, states in zip(self._optimizers, self._states, strict=True):
            for key in [key for key in optimizer.state if key not in states]:
                del optimizer.state[key]
            for key, saved_state in states.items():
                now = optimizer.state[key]
                for name in [name for name in now if name not in saved_state]:
                    del now[name]
                for name, saved in saved_state.items():
                    now[name] = _into(now.get(name), saved)

    def _live(self) -> list[tuple[dict[str, Any], str, Tensor]]:
        found, seen = [], set()
        for module in self._root.modules():
            for owner in (module._parameters, module._buffers):  # noqa: SLF001 -- a buffer may be bound anew
                for name, value in owner.items():
                    if value is not None and id(value) not in seen and not nn.parameter.is_lazy(value):
                        seen.add(id(value))
                        found.append((owner, name, value))
        return found


def _copied(value: Any, old: Any = None) -> Any:
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    value = value.detach()
    if isinstance(old, Tensor) and old.shape == value.shape and old.dtype == value.dtype and old.device == value.device:
        return old.copy_(value)
    return value.clone()


def _into(now: Any, saved: Any) -> Any:
    """The saved value, in the tensor that holds the present one where there is one of its form."""
    if not isinstance(saved, Tensor):
        return copy.deepcopy(saved)
    if isinstance(now, Tensor) and now.shape == saved.shape and now.dtype == saved.dtype:
        now.data.copy_(saved)  # a view of its own version: a graph that is still to run backward may hold it
        return now
    return saved.clone()
