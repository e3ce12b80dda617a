"""How much of a steady step is spent in our own hooks and in reading its batch: ``python -m benchmarks.overhead_own``.

Less noisy than the ratio of two fits, and blind to what we cost elsewhere (caches, memory). A row for each part of the
Debugger with ``--parts``: ``typical`` is the median step, ``all`` the mean over all steady steps, those that are looked
at more closely included. Processor time of one thread, which other programs do not add to, though they spoil caches.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from benchmarks.overhead import CLOSE, EPOCH, TURN, debugger, quiet_trainer
from benchmarks.overhead_models import MODELS, Task
from lightning_debug.callbacks._data_tap import BatchTap

WHOLE, TAP = "Debugger", "batches of the loader"


class Meter(pl.Callback):
    """First of the callbacks: keeps what each step took, and what of it was ours, by part."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ours: list[dict[str, float]] = []
        self._now: dict[str, float] = defaultdict(float)
        self._inside: set[str] = set()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begins a step."""
        self.begun.append(time.thread_time())
        self.ours.append(self._now)
        self._now = defaultdict(float)

    def timed(self, call: Callable[..., Any], *names: str) -> Callable[..., Any]:
        """The same call, charged to each name; a call inside another of that name is charged once."""

        def run(*arguments: Any, **named: Any) -> Any:
            outer = [name for name in names if name not in self._inside]
            self._inside.update(outer)
            begun = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                spent = time.thread_time() - begun
                self._inside.difference_update(outer)
                for name in outer:
                    self._now[name] += spent

        return run

    def charge(self, watch: pl.Callback, name: str) -> None:
        """Times every hook of a callback."""
        for hook in filter(lambda hook: hook.startswith("on_"), dir(pl.Callback)):
            setattr(watch, hook, self.timed(getattr(watch, hook), name))


def measured(model: str, *, parts: bool) -> tuple[list[float], list[dict[str, float]]]:
    """Seconds of each steady step, and of what is ours in it, by part."""
    kind, make, size = MODELS[model]
    torch.manual_seed(0)
    meter, (watch,) = Meter(), debugger()
    meter.charge(watch, WHOLE)
    for part in watch.parts if parts else ():  # type: ignore[attr-defined]
        meter.charge(part, type(part).__name__)
    with mock.patch.object(BatchTap, "__call__", meter.timed(BatchTap.__call__, WHOLE, TAP)):
        trainer = quiet_trainer([meter, watch], max_steps=EPOCH - TURN)
        trainer.fit(Task(kind), DataLoader(make(EPOCH * size), size, shuffle=True))
    whole = [after - before for before, after in zip(meter.begun[CLOSE:], meter.begun[CLOSE + 1 :], strict=False)]
    return whole, meter.ours[CLOSE + 1 :]


def main() -> None:
    """Prints a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", choices=list(MODELS))
    parser.add_argument("--parts", action="store_true", help="a row for each part of the Debugger")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print("| model | part | step, ms | typical, µs | share | all, µs | share |\n|---|---|---|---|---|---|---|")
    for model in asked.model or MODELS:
        whole, ours = measured(model, parts=asked.parts)
        step, mean = statistics.median(whole), statistics.fmean(whole)
        names = {name: [spent.get(name, 0.0) for spent in ours] for one in ours for name in one}
        for name in sorted(names, key=lambda name: -sum(names[name])):
            typical, average = statistics.median(names[name]), statistics.fmean(names[name])
            if asked.parts or name == WHOLE:
                print(
                    f"| {model} | {name} | {1000 * step:.1f} | {1e6 * typical:.0f} | {typical / step:.2%} "
                    f"| {1e6 * average:.0f} | {average / mean:.2%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
