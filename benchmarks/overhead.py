"""What the Debugger and each callback add to a training step: paired fits that take turns, over several processes.

Run ``python -m benchmarks.overhead [--steps 400] [--blocks 6] [--model mlp] [--only NonFiniteGuard] [--device cuda]``.
Two fits of the same model, one with callbacks and one without, run in two threads of one process and take turns every
few steps, so that whatever else the machine does hits both. On a CPU each thread's own processor time is counted,
which other programs add to only by spoiling caches; on a GPU the wall clock, with the device waited for at each turn.
A pair is one turn of each.

Both threads run on one core: on two, of which one shares its caches with a busy neighbour, equal fits differ by up to
15 %, always the same way within a process. What is left is which of them was made and ran first, and what memory it
got. So a block is a fresh process, and blocks alternate which fit is the first. Of each block the median of its pairs'
ratios is taken, after the first steps, which are looked at closely; two blocks of opposite order make one ratio, their
geometric mean. Memory that is freed stays with the process (:data:`MEMORY`): else a fit may give it back and fault it
in again in each step, which takes a sixth of the CNN's, and which does so is chance. Printed are the median of those
and the smallest and largest; ``mean``: of all pairs, with the first steps; what the fit costs once besides; how often a
step reads a value of a tensor; and how many bytes of tensors are alive besides. The row of two equal fits says what it
is worth, but for what memory each gets: where its interval is wide, the machine was busy.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import lightning_debug
from benchmarks.overhead_models import MODELS, Task
from benchmarks.overhead_reads import Reads
from lightning_debug.debugger import PARTS

TURN = 5
"""Steps of one fit before it is the other's turn."""

CLOSE = 64
"""The first steps, which are looked at closely."""

EPOCH = 200
"""Steps of an epoch."""

MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""What tells glibc to keep freed memory, in one arena for both threads."""


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


def pair(
    model: str, fits: tuple[Fit, Fit], steps: int, device: str, *, swapped: bool = False, epoch: int = EPOCH
) -> dict[str, float]:
    """Two fits that take turns, the first without and the second with what is measured.

    Args:
        model: Name of the model.
        fits: The two.
        steps: Steps of each.
        device: ``"cpu"`` or ``"cuda"``.
        swapped: Whether the second is made first and begins each pair.
        epoch: Steps of an epoch; in the first, DataAuditor reads each batch.

    Returns:
        ``median`` and ``mean`` of the ratios, ``step`` (milliseconds without), ``once`` (seconds that the fit costs
        more besides its later steps).
    """
    kind, make, size = MODELS[model]
    fits = (fits[1], fits[0]) if swapped else fits
    whole, turns, errors = [0.0, 0.0], Turns(), list[Exception]()
    paces = [Pace(turns, player, device) for player in (0, 1)]

    def play(player: int) -> None:
        try:
            turns.wait(player)
            torch.manual_seed(0)
            loader = DataLoader(make(epoch * size), size, shuffle=True)
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
    without, with_us = (pace.seconds for pace in (paces[::-1] if swapped else paces))
    more = whole[0] - whole[1] if swapped else whole[1] - whole[0]
    late = CLOSE // TURN + 1
    ratios = [one / other for one, other in zip(with_us, without, strict=False)]
    steady = statistics.median(ratios[late:])
    step = statistics.median(without[late:]) / TURN
    return {
        "median": steady,
        "mean": sum(with_us) / sum(without),
        "step": 1000 * step,
        "once": more - (steady - 1) * step * steps,
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


def watched(model: str, fit: Fit, device: str) -> tuple[float, int]:
    """How many values a steady step reads, and bytes of tensors that are alive after it."""
    kind, make, size = MODELS[model]
    torch.manual_seed(0)
    steady = range(CLOSE + 1, EPOCH - TURN)
    first = Reads(steady, EPOCH // 2 - TURN)
    last = Reads(steady, EPOCH // 2 - TURN, first)
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
    found["torch.autograd.set_detect_anomaly"] = (PLAIN, Fit(lambda: [Anomalies()]))
    found["Trainer(detect_anomaly=True)"] = (PLAIN, Fit(options={"detect_anomaly": True}))
    return found


def main() -> None:
    """Prints a table, a row for each subject and model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--blocks", type=int, default=6, help="processes, half of them in each order")
    parser.add_argument("--model", action="append", choices=list(MODELS))
    parser.add_argument("--only", action="append")
    parser.add_argument("--epoch", type=int, default=EPOCH, help="steps of an epoch")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--block", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    if asked.block is not None:
        print(json.dumps(block(asked.only[0], asked.model[0], asked, swapped=bool(asked.block % 2))))
        return
    print("| | model | step, ms | median | from, to | mean | once, s | reads a step | MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in subjects():
        if asked.only and name not in asked.only:
            continue
        for model in asked.model or MODELS:
            print(row(name, model, asked), flush=True)


def block(name: str, model: str, asked: argparse.Namespace, *, swapped: bool) -> dict[str, float]:
    """What one process measures; the first of them counts reads and memory too."""
    fits = subjects()[name]
    if asked.device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        found = pair(model, fits, asked.steps, asked.device, swapped=swapped, epoch=asked.epoch)
        if asked.block == 0:
            (read_before, alive_before), (read, alive) = (watched(model, fit, asked.device) for fit in fits)
            found |= {"reads": read - read_before, "bytes": alive - alive_before}
    return found


def row(name: str, model: str, asked: argparse.Namespace) -> str:
    """One row of the table."""
    how = ["--only", name, "--model", model, "--device", asked.device]
    how += ["--steps", str(asked.steps), "--epoch", str(asked.epoch)]
    command = [sys.executable, "-m", "benchmarks.overhead", *how, "--block"]
    blocks: list[dict[str, float]] = []
    for index in range(2 * max(1, asked.blocks // 2)):
        kept = {**os.environ, **MEMORY}
        told = subprocess.run([*command, str(index)], capture_output=True, text=True, check=True, env=kept).stdout
        blocks.append(json.loads(told.splitlines()[-1]))
    ratios = [math.sqrt(one["median"] * other["median"]) for one, other in zip(blocks[::2], blocks[1::2], strict=True)]
    means = [math.sqrt(one["mean"] * other["mean"]) for one, other in zip(blocks[::2], blocks[1::2], strict=True)]
    step, once = (statistics.median(item[key] for item in blocks) for key in ("step", "once"))
    return (
        f"| {name} | {model} | {step:.1f} | {statistics.median(ratios):.3f} | {min(ratios):.3f}, {max(ratios):.3f} "
        f"| {statistics.median(means):.3f} | {once:.2f} | {blocks[0]['reads']:.2f} | {blocks[0]['bytes'] / 1e6:+.2f} |"
    )


if __name__ == "__main__":
    main()
