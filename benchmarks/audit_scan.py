"""What the full scan costs: throughput and memory against merely iterating the loader.

Run ``python -m benchmarks.audit_scan [--counts 10000 100000] [--how audit full] [--repeats 3]``. Each row reads a
memory-mapped data set of so many samples (nine tenths of them for training) in two processes of its own: one iterates
the loaders, one is ``lightning-debug audit``. With ``full`` it is ``DataAuditor(scan="full")`` before a fit of a step,
against iterating loaders with one worker, which is how that reads. Seconds are CPU time, workers included, the least of
the repeats. Memory is the peak of what the process holds itself (RssAnon), without the pages of the mapped file and
without workers. A sample's share of time and memory is told against the row before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from lightning_debug import DataAuditor

SHAPES: dict[str, tuple[tuple[int, ...], str]] = {
    "64 floats": ((64,), "float32"),
    "3x32x32 image": ((3, 32, 32), "float32"),
    "128 tokens": ((128,), "int64"),
}


class Mapped(Dataset[tuple[Tensor, Tensor]]):
    """Rows of a memory-mapped file."""

    def __init__(self, path: str, kind: str, count: int) -> None:
        shape, dtype = SHAPES[kind]
        self.rows: Any = np.memmap(path, dtype, "r", shape=(count, *shape))
        self.labels = torch.arange(count) % 10

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.array(self.rows[index])), self.labels[index]


def write(path: str, kind: str, count: int) -> None:
    """Fills the file, a part at a time; values tell the label: a class has a mean of its own, or words."""
    shape, dtype = SHAPES[kind]
    rows: Any = np.memmap(path, dtype, "w+", shape=(count, *shape))
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((10, *shape), np.float32)
    for start in range(0, count, 10_000):
        part = (min(10_000, count - start), *shape)
        classes = np.arange(start, start + part[0]) % 10
        if dtype == "int64":
            words = generator.integers(1, 30_000, part)
            drawn = np.where(generator.random(part) < 0.2, words % 10 + 10 * classes[:, None] + 1, words)
        else:
            drawn = generator.standard_normal(part, np.float32) + 0.5 * centres[classes]
        rows[start : start + 10_000] = drawn
    rows.flush()


class Peak(threading.Thread):
    """Follows the memory that this process holds itself, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Looks a hundred times a second."""
        while not self._over.wait(0.01):
            self.look()

    def look(self) -> None:
        """Looks once."""
        with open("/proc/self/status") as status:
            held = next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))
        self.highest = max(self.highest, held)

    def stop(self) -> int:
        """Ends it."""
        self._over.set()
        self.look()
        return self.highest


def child(path: str, kind: str, count: int, how: str) -> None:
    """Reads in this process; prints seconds and the peak of memory."""
    torch.set_num_threads(1)
    data = Mapped(path, kind, count)
    cut = count * 9 // 10
    workers = int(how == "worker")
    loaders = [
        DataLoader(Subset(data, range(cut)), 64, shuffle=True, num_workers=workers),
        DataLoader(Subset(data, range(cut, count)), 64, num_workers=workers),
    ]
    from lightning_debug import Debugger
    from lightning_debug.reading import read

    peak = Peak()
    peak.start()
    begin = sum(os.times()[:4])
    if how in ("iterate", "worker"):
        for loader in loaders:
            for _ in loader:
                pass
    else:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            if how == "audit":
                report = read(loaders, Debugger(select=["LD5"], report_dir=folder, console=False))
            else:
                report = scanned(loaders, folder)
        assert not [item for item in report.findings if item.severity >= "warning"], report.findings
    sys.stdout.write(f"RESULT {sum(os.times()[:4]) - begin} {peak.stop()}\n")


class Line(pl.LightningModule):
    """Fits the labels with a constant, so that a step takes next to no time."""

    def __init__(self) -> None:
        super().__init__()
        self.guess = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Squared error."""
        return (self.guess - batch[1].float()).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), 0.01)


def scanned(loaders: list[DataLoader[Any]], folder: str) -> Any:
    """A fit of one step after a full scan; its report."""
    auditor = DataAuditor(scan="full")
    settings = {"LIGHTNING_DEBUG_REPORT_DIR": folder, "LIGHTNING_DEBUG_CONSOLE": "0", "LIGHTNING_DEBUG_SELECT": "LD5"}
    with mock.patch.dict(os.environ, settings):
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, callbacks=[auditor], max_steps=1, num_sanity_val_steps=0, **options
        )
        trainer.fit(Line(), loaders[0], loaders[1])
    return auditor.report


def measured(path: str, kind: str, count: int, ways: tuple[str, str], repeats: int) -> tuple[float, int, float, int]:
    """Seconds of CPU time and peak of memory of two ways of reading, in turn, a process each: the least of each."""
    found: dict[str, list[tuple[float, int]]] = {how: [] for how in ways}
    for _, how in itertools.product(range(repeats), ways):
        words = [sys.executable, "-m", "benchmarks.audit_scan", "--child", path, kind, str(count), how]
        out = subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]).stdout
        seconds, held = out.partition("RESULT ")[2].split()[:2]
        found[how].append((float(seconds), int(held)))
    first, second = (tuple(map(min, zip(*found[how], strict=True))) for how in ways)
    return first[0], int(first[1]), second[0], int(second[1])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--kinds", nargs="+", default=list(SHAPES))
    parser.add_argument("--how", nargs="+", default=["audit", "full"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        path, kind, count, how = options.child
        child(path, kind, int(count), how)
        return
    print(f"{'samples':<14} {'count':>8} {'iterate':>9} {'scan':>14} {'ratio':>6} {'peak':>7}  a further sample")
    for kind, how in itertools.product(options.kinds, options.how):
        base = "iterate" if how == "audit" else "worker"
        before: tuple[int, float, float, int] | None = None
        for count in options.counts:
            handle, path = tempfile.mkstemp(suffix=".npy")
            os.close(handle)
            try:
                write(path, kind, count)
                plain, least, audited, most = measured(path, kind, count, (base, how), options.repeats)
            finally:
                os.unlink(path)
            held = most - least
            told = ""
            if before is not None:
                further = count - before[0]
                times = [1e6 * (now - then) / further for now, then in ((plain, before[1]), (audited, before[2]))]
                told = f"{times[0]:.1f} and {times[1]:.1f} us, {(held - before[3]) / further:.0f} bytes"
            before = count, plain, audited, held
            print(
                f"{kind:<14} {count:>8} {plain:>7.2f} s {how:>5} {audited:>6.2f} s {audited / plain:>6.2f} "
                f"{most / 2**20:>4.0f} MB  {told}",
                flush=True,
            )


if __name__ == "__main__":
    main()
