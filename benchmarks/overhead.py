"""What the Debugger and each callback add to a training step: paired fits that take turns, ratios in one run.

Run ``python -m benchmarks.overhead [--steps 400] [--model mlp] [--only NonFiniteGuard] [--device cuda]``. Two fits
of the same model, one with callbacks and one without, run in two threads of one process and take turns every few
steps, so that whatever else the machine does hits both. On a CPU each thread's own processor time is counted, which
other programs do not add to; on a GPU the wall clock, with the device waited for at each turn. A pair is one turn of
each. Printed are the median of the pairs' ratios after the first steps, which are looked at closely; the mean of all
pairs, with them; what the fit costs once besides; how often a step reads a value of a tensor; and how many bytes of
tensors are alive besides.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import io
import logging
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lightning_debug
from benchmarks.overhead_models import MODELS, Task
from lightning_debug.debugger import PARTS
from tests.test_host_reads import Count

TURN = 5
"""Steps of one fit before it is the other's turn."""

CLOSE = 64
"""The first steps, which are looked at closely."""

EPOCH = 200
"""Steps of an epoch."""


class Turns:
    """Has two threads take turns."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._turn, self._alive = 0, {0, 1}

    def wait(self, player: int) -> None:
        """Waits until it is the player's turn, or the other is gone."""
        with self._condition:
            self._condition.wait_for(lambda: self._turn == player or len(self._alive) < 2)

    def hand_over(self, player: int) -> None:
        """Ends the player's turn."""
        with self._condition:
            self._turn = 1 - player
            self._condition.notify_all()

    def leave(self, player: int) -> None:
        """The player takes no more turns."""
        with self._condition:
            self._alive.discard(player)
            self._turn = 1 - player
            self._condition.notify_all()


class Pace(pl.Callback):
    """First callback of a fit: takes turns with the other fit, and keeps what each turn took."""

    def __init__(self, turns: Turns, player: int, device: str) -> None:
        self.seconds: list[float] = []
        self._turns, self._player, self._cuda = turns, player, device != "cpu"
        self._begun = 0.0

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.thread_time()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Ends a turn and begins the next."""
        if trainer.global_step % TURN == 0:
            if trainer.global_step:
                self.seconds.append(self._now() - self._begun)
                self._turns.hand_over(self._player)
            self._turns.wait(self._player)
            self._begun = self._now()


@dataclasses.dataclass(frozen=True)
class Fit:
    """One way to fit: what is added to the Trainer.

    Attributes:
        callbacks: Makes the callbacks.
        options: More of the Trainer's arguments.
    """

    callbacks: Callable[[], Sequence[pl.Callback]] = list
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def pair(model: str, fits: tuple[Fit, Fit], steps: int, device: str) -> dict[str, float]:
    """Two fits that take turns, the first without and the second with what is measured.

    Returns:
        ``median`` and ``mean`` of the ratios, ``step`` (milliseconds without), ``once`` (seconds that the fit costs
        more besides its later steps).
    """
    kind, make, size = MODELS[model]
    whole, turns = [0.0, 0.0], Turns()
    errors: list[Exception] = []
    paces = [Pace(turns, player, device) for player in (0, 1)]

    def play(player: int) -> None:
        try:
            turns.wait(player)
            torch.manual_seed(0)
            loader = DataLoader(make(EPOCH * size), size, shuffle=True)
            own = fits[player].callbacks()
            trainer = quiet_trainer([paces[player], *own], max_steps=steps, device=device, **fits[player].options)
            begun = time.thread_time()
            trainer.fit(Task(kind), loader)
            whole[player] = time.thread_time() - begun
        except Exception as error:  # shown by the main thread
            errors.append(error)
        finally:
            turns.leave(player)

    threads = [threading.Thread(target=play, args=(player,)) for player in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    without, with_us = (pace.seconds for pace in paces)
    late = CLOSE // TURN + 1
    ratios = [one / other for one, other in zip(with_us, without, strict=False)]
    steady = statistics.median(ratios[late:])
    step = statistics.median(without[late:]) / TURN
    return {
        "median": steady,
        "mean": sum(with_us) / sum(without),
        "step": 1000 * step,
        "once": whole[1] - whole[0] - (steady - 1) * step * steps,
    }


def quiet_trainer(callbacks: Sequence[pl.Callback], *, device: str = "cpu", **options: Any) -> pl.Trainer:
    """A Trainer that writes nothing."""
    return pl.Trainer(
        accelerator=device,
        devices=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": -1, **options},
    )


class Reads(pl.Callback):
    """Counts what reads values of tensors, between two callbacks of its kind; steady steps only."""

    def __init__(self, first: Reads | None = None) -> None:
        self.count, self.steps, self.bytes = 0, 0, 0
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
            if CLOSE < trainer.global_step < EPOCH - TURN:
                self.steps += 1
                self.count += sum(self._first._mode.found.values())
            if trainer.global_step == EPOCH // 2 - TURN:
                self.bytes = alive()


def alive() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensors = [item for item in gc.get_objects() if isinstance(item, Tensor)]
        storages = {item.untyped_storage()._cdata: item.untyped_storage().nbytes() for item in tensors}
    return sum(storages.values())


def watched(model: str, fit: Fit, device: str) -> tuple[float, int]:
    """How many values a steady step reads, and bytes of tensors that are alive after it."""
    kind, make, size = MODELS[model]
    torch.manual_seed(0)
    first = Reads()
    last = Reads(first)
    trainer = quiet_trainer([first, *fit.callbacks(), last], max_steps=EPOCH // 2, device=device, **fit.options)
    trainer.fit(Task(kind), DataLoader(make(EPOCH * size), size, shuffle=True))
    return last.count / max(last.steps, 1), last.bytes


PLAIN, CLIPPED = Fit(), Fit(options={"gradient_clip_val": 1.0})


class Anomalies(pl.Callback):
    """torch's own search for NaN in backward passes, for comparison."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Switches it on for this thread."""
        torch.autograd.set_detect_anomaly(True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Switches it off."""
        torch.autograd.set_detect_anomaly(False)


def debugger() -> list[pl.Callback]:
    """The whole suite."""
    return [lightning_debug.Debugger(console=False, tensorboard=False)]


def subjects() -> dict[str, tuple[Fit, Fit]]:
    """What is measured, by name, and what it is compared with before it."""
    guard = Fit(lambda: [lightning_debug.NonFiniteGuard(max_norm=1.0)])
    found = {"nothing (noise)": (PLAIN, PLAIN), "Debugger": (PLAIN, Fit(debugger))}
    found |= {part.__name__: (PLAIN, Fit(lambda part=part: [part()])) for part in PARTS}  # type: ignore[misc]
    found["Debugger, clipped run"] = (CLIPPED, Fit(debugger, CLIPPED.options))
    found["NonFiniteGuard that clips, against clipping"] = (CLIPPED, guard)
    found["gradient_clip_val"] = (PLAIN, CLIPPED)
    found["detect_anomaly"] = (PLAIN, Fit(lambda: [Anomalies()]))
    return found


def main() -> None:
    """Prints a table, a row for each subject and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--model", action="append", choices=list(MODELS))
    parser.add_argument("--only", action="append")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print("| | model | step, ms | median | mean | once, s | reads a step | MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, fits in subjects().items():
        if asked.only and name not in asked.only:
            continue
        for model in asked.model or MODELS:
            print(row(name, model, fits, asked), flush=True)


def row(name: str, model: str, fits: tuple[Fit, Fit], asked: argparse.Namespace) -> str:
    """One row of the table."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        found = pair(model, fits, asked.steps, asked.device)
        (read_before, alive_before), (read, alive) = (watched(model, fit, asked.device) for fit in fits)
    return (
        f"| {name} | {model} | {found['step']:.1f} | {found['median']:.3f} | {found['mean']:.3f} "
        f"| {found['once']:.2f} | {read - read_before:.2f} | {(alive - alive_before) / 1e6:+.2f} |"
    )


if __name__ == "__main__":
    main()
