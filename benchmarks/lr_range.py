"""Regret of learning-rate rules: points lost against the best of a half-decade grid of whole trainings.

    python -m benchmarks.lr_range [--seeds 3] [--tasks WORD] [--group report] [--found FILE]

The oracle's trainings are kept in a file, so that a rerun only runs the rules: ours, Lightning's ``Tuner.lr_find``,
the valley rule (the middle of the longest falling stretch of the smoothed curve) and a tenth of the rate at its
minimum. Between grid points scores are interpolated in log rate. What the rules suggest is kept in a file if one is
named, so that a run that was cut off goes on.

Regret is told twice: against the scores of the seed itself, whose best is partly luck (test parts are small), and
against the mean scores of all seeds, which is what choosing a rate costs on average. How much luck there is show the
last rows: the best of the grid by the test scores of another seed, or of all others, which no rule could know.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.lr_tasks import TASKS, Task, batches, loss_of, train
from lightning_debug.experiments.lr_search import search
from lightning_debug.experiments.lr_trials import Plan, run_sweep

GRID = [10 ** (power / 2) for power in range(-10, 3)]
ORACLE = os.path.join(os.path.dirname(__file__), "lr_oracle.json")


class Run:
    """A task as the search wants it; a fifth of the training part is held out."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.seed = task, seed
        self.x, self.y, *_ = task.data(seed)
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(77))
        cut = int(len(order) * 0.8)
        self.rows, self.kept = order[:cut], order[cut:][:512]

    def rewind(self, order):
        torch.manual_seed(self.seed)
        self.net = self.task.net()
        self.optimizer = self.task.optimizer(self.net.parameters(), 1e-3)
        self.batches = batches(len(self.rows), self.task.batch, torch.Generator().manual_seed(order))

    def step(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        rows = self.rows[next(self.batches)]
        loss = loss_of(self.task, self.net(self.x[rows]), self.y[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def held_out(self):
        self.net.eval()
        with torch.no_grad():
            loss = loss_of(self.task, self.net(self.x[self.kept]), self.y[self.kept]).item()
        self.net.train()
        return loss


class Module(pl.LightningModule):
    """The same for Lightning's tuner."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.net, self.lr = task, task.net(), 1e-3

    def training_step(self, batch, batch_idx):
        return loss_of(self.task, self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return self.task.optimizer(self.parameters(), self.lr)


def ours(task: Task, seed: int) -> float | None:
    run = Run(task, seed)
    steps = task.epochs * math.ceil(len(run.x) / task.batch)
    return search(run, Plan(trial_steps=max(10, min(Plan.trial_steps, steps)))).suggestion


def lightnings(task: Task, seed: int) -> float | None:
    pl.seed_everything(seed, verbose=False)
    x, y, *_ = task.data(seed)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=20, enable_model_summary=False, default_root_dir=folder, **quiet
        )
        found = pl.tuner.Tuner(trainer).lr_find(Module(task), DataLoader(TensorDataset(x, y), task.batch, shuffle=True))
    return found.suggestion() if found is not None else None


def curve(task: Task, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One sweep with the smoothing that both rules use, without its ends."""
    found = run_sweep(Run(task, seed), Plan(), 1000)
    mean, smooth = 0.0, []
    for index, loss in enumerate(found.losses):
        mean = 0.98 * mean + 0.02 * loss
        smooth.append(mean / (1 - 0.98 ** (index + 1)))
    return np.array(found.lrs)[10:-5], np.array(smooth)[10:-5]


def tenth(task: Task, seed: int) -> float | None:
    lrs, losses = curve(task, seed)
    return float(lrs[np.nanargmin(losses)]) / 10


def valley(task: Task, seed: int) -> float | None:
    lrs, losses = curve(task, seed)
    longest = [1] * len(losses)
    end = 0
    for index in range(1, len(losses)):
        lower = [longest[before] + 1 for before in range(index) if losses[index] < losses[before]]
        longest[index] = max([1, *lower])
        if longest[index] > longest[end]:
            end = index
    start = end - longest[end]
    return float(lrs[min(len(lrs) - 1, max(0, int(start + (end - start) / 2)))])


ANOTHER, OTHERS = "best of another seed", "best of all other seeds"
RULES = {"LRRangeFinder": ours, "Tuner.lr_find": lightnings, "valley": valley, "minimum / 10": tenth}


def oracle(path: str, tasks: list[Task], seeds: Iterable[int]) -> dict[str, float]:
    """Scores by task, seed and rate; what is missing in the file is trained and added."""
    known: dict[str, float] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    for task in tasks:
        for seed in seeds:
            for lr in GRID:
                key = f"{task.name}|{seed}|{lr:.3g}"
                if key not in known:
                    known[key] = round(train(task, seed, lr), 2)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(known, file, indent=0)
    return known


def regret(known: dict[str, float], task: Task, seeds: Sequence[int], lr: float | None) -> float:
    """Points lost at a rate, by the mean scores of some seeds."""
    scores = [statistics.mean(known[f"{task.name}|{seed}|{one:.3g}"] for seed in seeds) for one in GRID]
    at = math.log10(lr) if lr else -5.0
    return max(scores) - float(np.interp(at, np.log10(GRID), scores))


def best(known: dict[str, float], task: Task, seeds: Sequence[int]) -> float | None:
    """The rate of the grid with the highest mean score of some seeds."""
    return max(GRID, key=lambda lr: sum(known[f"{task.name}|{seed}|{lr:.3g}"] for seed in seeds)) if seeds else None


def suggestions(path: str | None, tasks: list[Task], seeds: Sequence[int]) -> dict[str, float | None]:
    """What the rules say by task, seed and rule; what a file holds already is taken from there."""
    found: dict[str, float | None] = {}
    if path and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    for task in tasks:
        for name, rule in RULES.items():
            begun = time.monotonic()
            for seed in seeds:
                key = f"{task.name}|{seed}|{name}"
                if key not in found:
                    found[key] = rule(task, seed)
            rates = ", ".join(f"{found[f'{task.name}|{seed}|{name}'] or math.nan:.2g}" for seed in seeds)
            print(f"{task.name}: {name}: {rates} ({time.monotonic() - begun:.0f} s)", flush=True)
            if path:
                with open(path, "w", encoding="utf-8") as file:
                    json.dump(found, file, indent=0)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--tasks", default="", help="Only tasks whose name contains this.")
    arguments.add_argument("--group", choices=["tune", "report"], help="Only this half of the tasks.")
    arguments.add_argument("--oracle", default=ORACLE)
    arguments.add_argument("--found", help="Where to keep what the rules suggest.")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    tasks = [task for task in TASKS if options.tasks in task.name and options.group in (None, task.group)]
    every = list(range(options.seeds))
    known = oracle(options.oracle, tasks, every)
    found = suggestions(options.found, tasks, every)
    rows = [*RULES, ANOTHER, OTHERS] if options.seeds > 1 else list(RULES)
    for task, seed in itertools.product(tasks, every):
        found[f"{task.name}|{seed}|{ANOTHER}"] = best(known, task, [(seed + 1) % options.seeds])
        found[f"{task.name}|{seed}|{OTHERS}"] = best(known, task, [one for one in every if one != seed])
    head = "| tasks | regret against | rule | mean | median | worst | within 1.5 | above 20 |"
    print(f"\n{head}\n|---|---|---|---|---|---|---|---|")
    for group, against, name in itertools.product(("tune", "report"), ("mean of seeds", "seed itself"), rows):
        if against == "mean of seeds" and name not in RULES:
            continue  # the mean holds the scores that chose
        values = [
            regret(known, task, every if against == "mean of seeds" else [seed], found[f"{task.name}|{seed}|{name}"])
            for task in tasks
            for seed in every
            if task.group == group
        ]
        if not values:
            continue
        print(f"| {group} ({len(values)}) | {against} | {name} | {summary(values)} |")


def summary(values: Sequence[float]) -> str:
    """Mean, median, worst, share within 1.5 and share above 20 of regrets, as cells of a table."""
    within, above = (sum(map(test, values)) / len(values) for test in (lambda v: v <= 1.5, lambda v: v > 20))
    middle = f"{statistics.mean(values):.2f} | {statistics.median(values):.2f}"
    return f"{middle} | {max(values):.1f} | {within:.0%} | {above:.0%}"


if __name__ == "__main__":
    main()
