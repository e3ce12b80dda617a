"""What a step reads on the host, and what memory it leaves: counted by operators and by the tensors that are alive."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from tests.test_host_reads import Count


class Reads(pl.Callback):
    """Counts what reads values of tensors, between two callbacks of its kind.

    Args:
        steady: The steps that count.
        measured: The step at which memory is measured.
        first: The first of the two.
    """

    def __init__(self, steady: range, measured: int, first: Reads | None = None) -> None:
        self.count, self.steps, self.bytes = 0, 0, 0
        self._steady, self._measured = steady, measured
        self._first, self._mode = first, Count()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begins to count."""
        if self._first is None:
            self._mode = Count()
            self._mode.__enter__()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ends counting."""
        if self._first is not None:
            self._first._mode.__exit__(None, None, None)
            if trainer.global_step in self._steady:
                self.steps += 1
                self.count += sum(self._first._mode.found.values())
            if trainer.global_step == self._measured:
                self.bytes = alive()


def alive() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = [item for item in gc.get_objects() if isinstance(item, Tensor)]
        storages = {item.untyped_storage()._cdata: item.untyped_storage().nbytes() for item in tensors}
    return sum(storages.values())
