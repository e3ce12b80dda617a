"""The epoch that is kept, and when training stops: EarlyStoppingSelector's rule beside the usual ones.

    python -m benchmarks.selection [--seeds 4] [--first 20] [--curves FILE]

Trains 12 small tasks (digits, tables, clusters, series; MLP, CNN, GRU; Adam, AdamW, SGD; label noise 0 to 20 % in
training and validation, none in the test set) for 100 epochs with each seed, and asks each rule for its epoch. Regret
is the best test accuracy of the whole run less that of the epoch kept, in points. With ``--curves`` the runs' curves
are kept in a file, and those that it holds are not trained again: another rule is then compared in seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.selection_tasks import TASKS, Run, train
from lightning_debug.curves.stopping import keep_epoch, should_stop

Rule = Callable[[Run], tuple[int, int]]


def selector(run: Run) -> tuple[int, int]:
    """The selector with every copy held, as it does for small models."""
    kept = keep_epoch(run.val_loss[:1], run.val_metric[:1])
    for epoch in range(1, len(run.val_loss) + 1):
        kept = keep_epoch(run.val_loss[:epoch], run.val_metric[:epoch], refined=run.refined[:epoch])
        if should_stop(kept, epoch):
            return epoch - 1, kept.index
    return len(run.val_loss) - 1, kept.index


def patience(field: str, sign: float, wait: int) -> Rule:
    """Lightning's EarlyStopping with ``min_delta=0``, and its best epoch."""

    def rule(run: Run) -> tuple[int, int]:
        best, where = -np.inf, 0
        values = getattr(run, field)
        for epoch, value in enumerate(values):
            if sign * value > best:
                best, where = sign * value, epoch
            elif epoch - where >= wait:
                return epoch, where
        return len(values) - 1, where

    return rule


def strips(successive: int, length: int = 5) -> Rule:
    """Prechelt's UP: the validation loss rises in so many successive strips."""

    def rule(run: Run) -> tuple[int, int]:
        worse = 0
        for epoch in range(2 * length - 1, len(run.val_loss), length):
            worse = worse + 1 if run.val_loss[epoch] > run.val_loss[epoch - length] else 0
            if worse >= successive:
                return epoch, int(np.argmin(run.val_loss[: epoch + 1]))
        return len(run.val_loss) - 1, int(np.argmin(run.val_loss))

    return rule


def generalisation_loss(alpha: float, *, progress: bool = False) -> Rule:
    """Prechelt's GL, or PQ, which divides it by the progress of training over five epochs."""

    def rule(run: Run) -> tuple[int, int]:
        for epoch in range(5, len(run.val_loss)):
            loss = 100 * (run.val_loss[epoch] / min(run.val_loss[: epoch + 1]) - 1)
            strip = run.train_loss[epoch - 4 : epoch + 1]
            scale = 1000 * (np.mean(strip) / min(strip) - 1) if progress else 1.0
            if loss > alpha * scale:
                return epoch, int(np.argmin(run.val_loss[: epoch + 1]))
        return len(run.val_loss) - 1, int(np.argmin(run.val_loss))

    return rule


RULES: dict[str, Rule] = {
    "EarlyStoppingSelector": selector,
    **{f"EarlyStopping(val_loss, {wait})": patience("val_loss", -1.0, wait) for wait in (3, 5, 10, 20)},
    **{f"EarlyStopping(val_acc, {wait})": patience("val_metric", 1.0, wait) for wait in (3, 5, 10, 20)},
    **{f"UP{count}": strips(count) for count in (2, 3, 4)},
    "GL5": generalisation_loss(5.0),
    "PQ0.5": generalisation_loss(0.5, progress=True),
    "ModelCheckpoint(val_acc), whole run": patience("val_metric", 1.0, 10**9),
    "ModelCheckpoint(val_loss), whole run": patience("val_loss", -1.0, 10**9),
}


def recorded(seeds: range, path: Path | None) -> list[Run]:
    """The runs of these seeds: out of the file as far as it holds them, else trained and added to it."""
    held = [Run(**item) for item in json.loads(path.read_text())] if path is not None and path.exists() else []
    known = {(run.task, run.seed): run for run in held}
    runs = []
    for task in TASKS:
        for seed in seeds:
            run = known.get((task, seed)) or train(task, seed)
            if path is not None and (task, seed) not in known:
                held.append(run)
                path.write_text(json.dumps([dataclasses.asdict(item) for item in held]))
            runs.append(run)
    return runs


def main() -> None:
    """Trains, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4, help="Seeds a task.")
    parser.add_argument("--first", type=int, default=20, help="First seed; 0 to 9 were tuned on.")
    parser.add_argument("--curves", type=Path, help="File of recorded curves, read and added to.")
    options = parser.parse_args()
    runs = recorded(range(options.first, options.first + options.seeds), options.curves)
    print(f"{len(runs)} runs of {len(TASKS)} tasks")
    print("| rule | regret: mean | median | worst | epochs |\n|---|---|---|---|---|")
    for name, rule in RULES.items():
        chosen = [rule(run) for run in runs]
        regret = [100 * (max(run.test) - run.test[kept]) for run, (_, kept) in zip(runs, chosen, strict=True)]
        epochs = np.mean([stop + 1 for stop, _ in chosen])
        print(f"| {name} | {np.mean(regret):.2f} | {np.median(regret):.2f} | {max(regret):.1f} | {epochs:.1f} |")


if __name__ == "__main__":
    main()
