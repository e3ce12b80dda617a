"""Healthy programs put together at random, and how many of them the Debugger accuses.

    python -m benchmarks.mixtures [--first 0] [--count 50] [--json outcomes.json]

A seed draws data, network, loss, optimizer, schedule, structure of the batches, loop, precision, logging and names,
each on its own, so that combinations come up that nobody would think to write. A program counts as healthy where its
validation ends clearly better than a forecast that does not see the inputs; others are told apart. What is said of a
program may still be true: read it. What the file holds is not run again.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import logging
import multiprocessing
import os
import random
import tempfile
import time
import traceback
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.mixture_data import DATA, language, learned, uninformed
from benchmarks.mixture_nets import network
from benchmarks.mixture_programs import Program, Rows, choose, observed
from lightning_debug import Debugger


def fit(seed: int) -> dict[str, Any]:
    """Trains the program of a seed, and tells how it went and what was said."""
    draw = random.Random(seed)
    pl.seed_everything(seed, verbose=False)
    make, count = draw.choice(DATA), draw.choice([1200, 2000, 3000])
    inputs, targets, task = make(draw, count)
    choices = choose(draw)
    cut, size = int(0.8 * len(inputs)), draw.choice([16, 32, 50, 64, 100])
    continuous = inputs.is_floating_point()
    noise = draw.choice([0.0, 0.0, 0.1]) if continuous and task.kind != "pixels" and inputs is not targets else 0.0
    precision = draw.choices(["32-true", "bf16-mixed", "64-true"], [10, 1 if task.kind != "counts" else 0, continuous])
    if precision == ["64-true"]:
        inputs, targets = inputs.double(), targets.double() if targets.is_floating_point() else targets
    if choices["plain"]:
        choices["structure"] = "tuple"
        train, val = TensorDataset(inputs[:cut], targets[:cut]), TensorDataset(inputs[cut:], targets[cut:])
    else:
        train = Rows(inputs[:cut], targets[:cut], choices["structure"], noise)
        val = Rows(inputs[cut:], targets[cut:], choices["structure"], 0.0)
    epochs = draw.choice([3, 5, 8, 12])
    epochs = min(max(epochs, 250 * size // cut + 1), max(3, 1200 * size // cut))
    keys: dict[str, Any] = {"num_sanity_val_steps": draw.choice([0, 2, 2])}
    if not choices["manual"]:
        keys["gradient_clip_val"] = choices["clip"]
        keys["accumulate_grad_batches"] = draw.choice([1, 1, 1, 1, 1, 2])
    keys["val_check_interval"] = draw.choice([1.0] * 9 + [0.5])
    stop = [pl.callbacks.EarlyStopping(choices["names"][1], patience=4)] if draw.random() < 0.2 else []
    debugger = Debugger(console=False)
    program = Program(network(draw, inputs, task, causal=make is language), task, choices)
    collate = {"collate_fn": observed} if choices["structure"] == "dataclass" else {}
    loaders = (
        DataLoader(train, size, shuffle=True, drop_last=draw.random() < 0.3, **collate),
        DataLoader(val, draw.choice([size, 128]), **collate),
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        precision=precision[0],
        callbacks=[*stop, debugger],
        logger=draw.random() < 0.5,
        enable_checkpointing=draw.random() < 0.3,
        enable_progress_bar=False,
        enable_model_summary=False,
        **keys,
    )
    start = time.process_time()
    trainer.fit(program, *loaders)
    known = uninformed(task, targets[cut:])
    what = {"data": make.__name__, "samples": cut, "batch": size, "epochs": epochs, "noise": noise}
    return {
        "program": what | {"precision": precision[0]} | choices | keys,
        "reached": program.final,
        "uninformed": known,
        "learned": learned(task, program.final, known),
        "seconds": time.process_time() - start,
        "said": [
            {"severity": str(item.severity), "code": item.code, "explained_by": item.explained_by, "said": item.message}
            for item in debugger.report.findings
        ],
    }


def tell(seed: int, send: Any) -> None:
    """Runs one program in a folder of its own, with its words caught."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            send.send(fit(seed))
        except Exception:
            send.send({"failed": traceback.format_exc()})
        os.chdir(os.sep)


def outcome(seed: int) -> dict[str, Any]:
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=tell, args=(seed, send))
    child.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return {"failed": "the process ended"}
    finally:
        child.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="First seed; below 200 were looked at.")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--json", help="File that outcomes are added to, and read from.")
    given = parser.parse_args()
    known: dict[str, Any] = {}
    if given.json and os.path.exists(given.json):
        with open(given.json) as file:
            known = json.load(file)
    accused: collections.Counter[str] = collections.Counter()
    healthy = silent = 0
    for seed in range(given.first, given.first + given.count):
        found = known[str(seed)] = known.get(str(seed)) or outcome(seed)
        if given.json:
            with open(given.json, "w") as file:
                json.dump(known, file)
        alarms = [item for item in found.get("said", []) if item["severity"] != "info"]
        if not found.get("learned"):
            print(f"{seed}: {found.get('failed') or 'learned too little'}", [item["code"] for item in alarms])
            continue
        healthy, silent = healthy + 1, silent + (not alarms)
        accused.update({item["code"] for item in alarms})
        for item in alarms:
            print(f"{seed}: {item['code']} {item['said']}\n    {found['program']}", flush=True)
    print(f"{silent} of {healthy} programs that learned are told nothing; accused by {dict(accused)}")


if __name__ == "__main__":
    main()
