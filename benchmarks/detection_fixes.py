"""Whether the printed fix, applied, brings the score back.

``python benchmarks/detection_fixes.py`` takes every faulty program of the folder ``detection`` and runs three, each in
a process of its own and with the same seed:

- the *broken* program under every callback, whose report holds the finding and its fix;
- the *fixed* program, under every callback too: the broken one after the edits of ``detection_fixes.json``. These were
  made by a reader of the broken program and of the printed fix, who did what it says and no more. The fix they read is
  kept beside them; where a fix says something else by now, the row tells so (``stale``);
- its *twin*, repaired by the author of the program, without us.

The weights of all three are judged by the twin: its validation on its held-out data, or where it has none, its loss on
its training batches in eval mode. Where the weights do not fit into the twin, each run's own validation counts.
`detection_recovery` says what counts as harm and as recovery.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import re
import runpy
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import detection
import lightning.pytorch
import pytorch_lightning
import torch
from detection_child import in_child
from detection_edits import applied, folded
from detection_recovery import compared, table, told

EDITS = Path(__file__).with_suffix(".json")
BEGIN = "<!-- fixes: written by python benchmarks/detection_fixes.py --readme README.md -->"
END = "<!-- end of fixes -->"
TRAINERS = (pytorch_lightning.Trainer, lightning.pytorch.Trainer)


def run(path: str, folder: str, seed: int, *, debug: bool, judges: dict[str, str] | None = None) -> None:
    """Runs a program, keeps its weights and its own scores; a twin judges the weights of others too."""
    os.environ["LIGHTNING_DEBUG"] = "1" if debug else "0"
    error = None
    before: list[dict] = []
    if judges is not None:
        keep_start(before)
    try:
        kept = train(path, folder, seed)
    except BaseException as raised:  # its traceback keeps the trainer
        error, kept = raised, None
    trainers = [item for item in gc.get_objects() if isinstance(item, TRAINERS) and item.lightning_module is not None]
    scores: dict[str, dict[str, float] | None] = {}
    if trainers:
        trainer = trainers[-1]
        model = trainer.lightning_module
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        torch.save(own, Path(folder) / "weights.pt")
        os.environ["LIGHTNING_DEBUG"] = "0"
        states = {"own": own, **({"untrained": before[-1]} if before else {})}
        for name, where in (judges or {}).items():
            with contextlib.suppress(Exception):  # a program that raises may have left none
                states[name] = torch.load(where)
        loaders = trainer.train_dataloader, trainer.val_dataloaders
        for name, state in states.items():
            try:
                model.load_state_dict(state)
                scores[name] = score(trainer, model, *loaders)
            except Exception:
                traceback.print_exc()
                scores[name] = None
    (Path(folder) / "scores.json").write_text(json.dumps(scores))
    if error is not None:
        raise error
    del kept


def keep_start(before: list[dict]) -> None:
    """Has every fit put the weights that it begins with into a list."""
    for trainer_class in TRAINERS:

        def fit(self, model, *args, _fit=trainer_class.fit, **options):
            before.append({name: value.detach().clone() for name, value in model.state_dict().items()})
            return _fit(self, model, *args, **options)

        trainer_class.fit = fit


def train(path: str, folder: str, seed: int) -> dict:
    """The globals of a program after its run."""
    os.chdir(folder)
    os.environ.update(LIGHTNING_DEBUG_HTML="0", LIGHTNING_DEBUG_REPORT_DIR=folder, LIGHTNING_DEBUG_TENSORBOARD="0")
    detection.seed_everything(seed)
    sys.argv = [path]
    return runpy.run_path(path, run_name="__main__")


def score(
    trainer: pytorch_lightning.Trainer, model: torch.nn.Module, training: object, validation: object
) -> dict[str, float]:
    """What a model's own validation says of it now, or its training loss where it does not validate."""
    detection.seed_everything(1234)
    if validation is not None:
        judge = type(trainer)(
            logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False, callbacks=[]
        )
        found: dict[str, float] = {}
        for result in judge.validate(model, validation, verbose=False):
            found |= {name: float(value) for name, value in result.items()}
        if found:
            return found
    losses: list[float] = []
    model.trainer = None
    if not model.automatic_optimization:  # what is passed to backward counts, and no step is made
        idle, count = MagicMock(), len(trainer.optimizers)
        model.optimizers = lambda *_, **__: idle if count == 1 else [idle] * count
        model.toggle_optimizer = model.untoggle_optimizer = model.lr_schedulers = idle
        model.manual_backward = lambda loss, *_, **__: losses.append(float(loss))
    model.eval()
    with torch.no_grad():
        for index, batch in enumerate(training):
            loss = model.training_step(batch, index)
            if model.automatic_optimization:
                losses.append(float(loss["loss"] if isinstance(loss, dict) else loss))
            if index == 19:
                break
    return {"training_loss": math.fsum(losses) / len(losses)}


def measured(name: str, planted: str, source: str, edits: dict, seed: int, keep: str) -> dict:
    """Runs the three programs of one fault and compares them."""
    with contextlib.ExitStack() as stack:
        root = Path(keep).absolute() / name if keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        texts = {"broken": folded(source, fault=True), "twin": folded(source, fault=False)}
        mine = edits.get(name, {"edits": [], "fix": ""})
        if mine["edits"]:
            texts["fixed"] = applied(texts["broken"], mine["edits"])
        codes: dict[str, int] = {}
        reports: dict[str, dict] = {}
        scores: dict[str, dict] = {}
        for part in ("broken", "fixed", "twin"):
            if part not in texts:
                continue
            folder = root / part
            folder.mkdir(parents=True, exist_ok=True)
            for old in ("report.json", "weights.pt", "scores.json"):
                (folder / old).unlink(missing_ok=True)
            path = folder / f"{name}.py"
            path.write_text(texts[part])
            judges = {other: str(root / other / "weights.pt") for other in ("broken", "fixed") if other in texts}
            twin = part == "twin"
            codes[part] = in_child(
                lambda p=str(path), f=str(folder), t=twin, j=judges: run(
                    p, f, seed, debug=not t, judges=j if t else None
                ),
                str(folder),
            )
            with contextlib.suppress(OSError):
                reports[part] = json.loads((folder / "report.json").read_text())["report"]
            with contextlib.suppress(OSError):
                scores[part] = json.loads((folder / "scores.json").read_text())
    return compared(name, planted, texts, mine["fix"], codes, reports, scores)


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="Programs whose name or code matches this regular expression.")
    parser.add_argument("--seed", type=int, default=0, help="The seed of all runs.")
    parser.add_argument("--keep", default="", help="Folder for programs, logs and reports; else they are removed.")
    parser.add_argument("--json", default="", help="File for all rows; what it holds already is not run again.")
    parser.add_argument("--readme", default="", help="File that holds the two markers, to write the table to.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    edits = json.loads(EDITS.read_text()) if EDITS.exists() else {}
    rows: list[dict] = []
    if options.json and Path(options.json).exists():
        rows = json.loads(Path(options.json).read_text())
    known = {row["name"] for row in rows}
    for case in detection.programs():
        if not case.faulty or not re.search(options.only, f"{case.name} {case.planted}") or case.name in known:
            continue
        row = measured(case.name, case.planted, Path(case.path).read_text(), edits, options.seed, options.keep)
        rows.append(row)
        print(told(row), flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps(rows, indent=1))
    print(table(rows))
    if options.readme:
        detection.write_between(Path(options.readme), BEGIN, END, table(rows))


if __name__ == "__main__":
    main()
