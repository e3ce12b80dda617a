"""BatchTap: sees each batch before it goes to the device, on whichever object owns that hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

HOOK = "on_before_batch_transfer"
_MISSING = object()


class BatchTap:
    """Stands in for ``owner.on_before_batch_transfer`` until :meth:`remove`, and passes everything on unchanged.

    Unlike a :class:`~lightning_debug.callbacks._taps.Shadow` it stays for a whole fit, so it is an object that can
    be pickled and copied with its owner: what comes out is the owner's own method.

    Args:
        owner: The module or datamodule whose hook Lightning calls.
        see: Called with the batch that the hook returned, and the index of its loader.
    """

    def __init__(self, owner: Any, see: Callable[[Any, int], None]) -> None:
        self._owner = owner
        self.previous = vars(owner).get(HOOK, _MISSING)
        self._original: Callable[..., Any] = getattr(owner, HOOK)
        self.see: Callable[[Any, int], None] | None = see
        # Lightning asks what is beneath whether the hook is overridden
        self.__wrapped__ = getattr(self._original, "__wrapped__", self._original)
        vars(owner)[HOOK] = self

    def __call__(self, batch: Any, dataloader_idx: int = 0) -> Any:
        """Looks at what the hook returns."""
        result = self._original(batch, dataloader_idx)
        if self.see is not None:
            self.see(result, dataloader_idx)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, HOOK)

    def remove(self) -> None:
        """Puts the hook back; harmless when repeated."""
        self.see = None
        if vars(self._owner).get(HOOK) is not self:
            return  # somebody wrapped us since: from now on we only pass through
        previous = self.previous
        while isinstance(previous, BatchTap) and previous.see is None:  # removed while it lay under this one
            previous = previous.previous
        if previous is _MISSING:
            del vars(self._owner)[HOOK]
        else:
            vars(self._owner)[HOOK] = previous
