"""How much of a steady step is spent in our own hooks and in reading its batch: ``python -m benchmarks.overhead_own``.

Less noisy than the ratio of two fits, and blind to what we cost elsewhere (caches, memory).
"""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from benchmarks.overhead import CLOSE, EPOCH, TURN, debugger, quiet_trainer
from benchmarks.overhead_models import MODELS, Task
from lightning_debug.callbacks._data_tap import BatchTap


class Meter(pl.Callback):
    """First of the callbacks: keeps what each step took, and what of it was ours. Processor time of this thread."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ours: list[float] = []
        self._now, self._inside = 0.0, False

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begins a step."""
        self.begun.append(time.thread_time())
        self.ours.append(self._now)
        self._now = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, charged to us; a call inside another is charged once."""

        def run(*arguments: Any, **named: Any) -> Any:
            if self._inside:
                return call(*arguments, **named)
            self._inside, begun = True, time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self._inside = False
                self._now += time.thread_time() - begun

        return run


def measured(model: str) -> tuple[float, float]:
    """Median milliseconds of a steady step, and of what is ours in it."""
    kind, make, size = MODELS[model]
    torch.manual_seed(0)
    meter, (watch,) = Meter(), debugger()
    for name in filter(lambda name: name.startswith("on_"), dir(pl.Callback)):
        setattr(watch, name, meter.timed(getattr(watch, name)))
    tap = BatchTap.__call__
    with mock.patch.object(BatchTap, "__call__", meter.timed(tap)):
        trainer = quiet_trainer([meter, watch], max_steps=EPOCH - TURN)
        trainer.fit(Task(kind), DataLoader(make(EPOCH * size), size, shuffle=True))
    whole = [after - before for before, after in zip(meter.begun[CLOSE:], meter.begun[CLOSE + 1 :], strict=False)]
    return 1000 * statistics.median(whole), 1000 * statistics.median(meter.ours[CLOSE + 1 :])


def main() -> None:
    """Prints a row for each model."""
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print("| model | step, ms | ours, ms | share |\n|---|---|---|---|")
    for model in MODELS:
        step, ours = measured(model)
        print(f"| {model} | {step:.1f} | {ours:.2f} | {ours / step:.1%} |", flush=True)


if __name__ == "__main__":
    main()
