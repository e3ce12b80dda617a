"""Regret of learning-rate rules on tasks that nothing was tuned on, with the luck of single trainings taken out.

    python -m benchmarks.lr_unseen [--tasks WORD] [--found FILE]

As benchmarks/lr_range.py, but a rate's score is the mean of whole trainings with three seeds, on test parts of 8000
rows, and the rules are asked with three other seeds. How much luck is left shows the last row, which no rule could
know: the rate of the grid that does best in a whole training with one seed, by its test score, judged by the others.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import warnings

import torch

from benchmarks.lr_range import RULES, best, oracle, regret, suggestions, summary
from benchmarks.lr_unseen_tasks import UNSEEN

ORACLE = os.path.join(os.path.dirname(__file__), "lr_oracle_unseen.json")
SCORED, ASKED = (0, 1, 2), (3, 4, 5)
PERFECT = "best of another seed"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--tasks", default="", help="Only tasks whose name contains this.")
    arguments.add_argument("--oracle", default=ORACLE)
    arguments.add_argument("--found", help="Where to keep what the rules suggest.")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    tasks = [task for task in UNSEEN if options.tasks in task.name]
    known = oracle(options.oracle, tasks, SCORED)
    found = suggestions(options.found, tasks, ASKED)
    lost: dict[str, dict[str, list[float]]] = {}
    for task in tasks:
        lost[task.name] = {
            rule: [regret(known, task, SCORED, found[f"{task.name}|{seed}|{rule}"]) for seed in ASKED] for rule in RULES
        }
        lost[task.name][PERFECT] = [
            regret(known, task, [one for one in SCORED if one != seed], best(known, task, [seed])) for seed in SCORED
        ]
    print("\n| task | best rate | " + " | ".join((*RULES, PERFECT)) + " |\n|" + "---|" * (len(RULES) + 3))
    for task in tasks:
        told = [" ".join(f"{value:.1f}" for value in values) for values in lost[task.name].values()]
        print(f"| {task.name} | {best(known, task, SCORED) or math.nan:.2g} | {' | '.join(told)} |")
    print("\n| rule | mean | median | worst | within 1.5 | above 20 |\n|---|---|---|---|---|---|")
    for rule in (*RULES, PERFECT):
        print(f"| {rule} | {summary([value for rules in lost.values() for value in rules[rule]])} |")


if __name__ == "__main__":
    main()
