"""What a user would pick instead, on the same programs and in the same run.

``python benchmarks/detection_peers.py`` takes a drawn sample of the programs of the folder ``detection`` (faulty and
healthy), trains each once under all peers, and once under the Debugger. The peers need

    pip install --no-deps torchtest2==0.1.0 torch-audit==0.3.0 gradsnitch==0.1.0 torcheck==1.0.1 traintools==0.6.2
    pip install --no-deps runmedic==0.1.1 losslint==0.4.1 && pip install "click<9" rich pandas

(torcheck asks for torch below 2, and runs with it all the same). One that is not installed is left out with a note.
They watch as their quick starts say (`detection_watch`); the two that read logs get the run's CSV log. A peer *names* a
fault if one of its findings is of a kind that `NAMES` grants for the planted code: generously, since "the loss is NaN"
counts for whatever makes it NaN, and an exception's own text for every error that raises. An *alarm* is any warning or
error on a healthy program, without hints on style and speed (formats, weight decay on biases, workers of a loader).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import random
import re
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

import detection
import torch
from detection_child import in_child
from detection_edits import folded
from detection_watch import watched

BEGIN = "<!-- peers: written by python benchmarks/detection_peers.py --readme README.md -->"
END = "<!-- end of peers -->"
RAISED = " ".join(f"LD{number}" for number in range(101, 118))
NAN = "LD301 LD302 LD303 LD304 LD305 LD601"
STUCK = "LD306 LD307 LD309 LD408 LD411 LD601 LD602 LD604 LD606 LD608 LD702 LD703 LD704 LD705 LD712 LD505"
NO_GRADIENT = "LD109 LD307 LD406 LD407 LD408"
OVERFIT = "LD510 LD706 LD707"
RISES = "LD601 LD603 LD608 LD701 LD713"
CANNOT_FIT = "LD201 LD202 LD203 LD204 LD205 LD206 LD207 LD208 LD209 LD605 LD603 LD604 " + STUCK
NAMES = {
    "lightning": {
        "raised": RAISED,
        "not finite": NAN,
        "eval mode": "LD401",
        "broadcast": "LD206",
        "scheduler": "LD604",
        "shuffling": "LD503",
        "ambiguous": "LD803",
    },
    "torchtest2": {
        "raised": "",
        "forward": "LD101 LD103 LD104 LD105 LD107 LD111",
        "loss": f"LD105 LD106 LD109 LD110 LD117 LD206 {NAN}",
        "output_finite": NAN,
        "output_varies": "LD205 LD307 LD309 LD411",
        "initial_loss": "LD210 LD211 LD519 LD501",
        "optimizer_coverage": "LD406 LD408",
        "gradient_flow": f"LD411 {NO_GRADIENT}",
        "gradient_magnitude": "LD305 LD210 LD211 LD501 LD519",
        "params_change": NO_GRADIENT,
        "frozen_params": "LD403",
        "input_dependency": "LD205 LD307 LD309 LD411 LD712",
        "batch_independence": "LD409",
        "eval_determinism": "LD404",
        "overfit_batch": CANNOT_FIT,
    },
    "torch-audit": {
        "TA100": NAN,
        "TA102": "LD305 LD601",
        "TA103": "LD307",
        "TA104": NO_GRADIENT,
        "TA105": "LD307 LD308 LD411",
        "TA300": "LD104",
        "TA301": "LD501",
        "TA302": "LD508 LD509",
        "TA303": "LD514",
        "TA304": "LD405",
        "TA305": "LD107 LD301",
        "TA405": "LD411",
        "TA500": "LD407",
        "TA501": "LD405",
    },
    "gradsnitch": {
        "GS001": NAN,
        "GS002": NAN,
        "GS003": "LD305 LD713",
        "GS004": OVERFIT,
        "GS005": STUCK,
        "GS006": RISES,
        "GS007": "LD306 LD307 LD411",
        "GS008": "LD601 LD602",
        "GS009": "LD601 LD713",
        "GS010": "LD604",
    },
    "torcheck": {"change": f"LD411 {NO_GRADIENT}", "NaN": NAN, "inf": NAN},
    "traintools": {
        "non-finite": NAN,
        "exceeds": "LD501",
        "nearly constant": "LD508 LD509",
        "dominant class": "LD504 LD511 LD503",
        "vanished": f"LD306 LD411 {NO_GRADIENT}",
        "very large": f"LD305 LD501 LD519 {NAN}",
        "ratio is high": "LD305 LD601",
        "ratio is tiny": "LD602 LD306",
        "no gradients": NO_GRADIENT,
        "empty": "LD518",
    },
    "runmedic": {
        "non_finite": NAN,
        "divergence": RISES,
        "loss_spikes": "LD713 LD601",
        "no_learning": STUCK,
        "overfitting": OVERFIT,
        "memory_growth": "LD609",
    },
    "losslint": {"nan_inf": NAN, "divergence": RISES, "loss_spike": "LD713 LD601"},
}
STYLE = ("TA2", "TA400", "TA401", "TA402", "TA403", "TA404")
"""Hints of torch-audit on formats, kernels and weight decay: neither a fault nor a false alarm."""
TITLES = {"lightning": "Lightning's own warnings and errors"}


def version(peer: str) -> str:
    """The installed version, or an empty text."""
    name = {"lightning": "pytorch-lightning"}.get(peer, peer)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def drawn(faulty: int, healthy: int, seed: int) -> list[detection.Case]:
    """A sample of the folder's programs."""
    cases = list(detection.programs())
    rng = random.Random(seed)
    bad = [case for case in cases if case.faulty]
    good = [case for case in cases if case.planted == "none"]
    bad, good = rng.sample(bad, min(faulty, len(bad))), rng.sample(good, min(healthy, len(good)))
    return [case for pair in itertools.zip_longest(bad, good) for case in pair if case is not None]  # in turn


def names(peer: str, found: list[str], planted: str) -> bool:
    """Whether one of the findings is of a kind that may stand for the planted fault."""
    return any(kind in text and planted in codes for text in found for kind, codes in NAMES[peer].items())


def measured(case: detection.Case, seed: int, keep: str, known: dict[str, dict]) -> dict:
    """All that was said of one program."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(keep).absolute() / re.sub(r"\W+", "_", case.name) if keep else Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        path = root / f"{Path(case.path).stem}.py"
        path.write_text(folded(Path(case.path).read_text(), fault=case.faulty))
        said = root / "said.json"
        said.unlink(missing_ok=True)
        in_child(lambda: watched(str(path), str(root), seed), str(root))
        found = json.loads(said.read_text()) if said.exists() else {}
    ours = known.get(case.name) or asdict(detection.run(case, seed))
    found = {peer: [text for text in texts if not text.startswith(STYLE)] for peer, texts in found.items()}
    return {
        "name": case.name,
        "planted": case.planted,
        "found": found,
        "ours": {name: ours[name] for name in ("first", "found", "alarms")},
    }


def table(rows: list[dict], peers: list[str]) -> str:
    """The comparison of the README."""
    bad = [row for row in rows if row["planted"] != "none"]
    good = [row for row in rows if row["planted"] == "none"]
    share = detection.share
    lines = [
        f"| {len(bad)} faulty and {len(good)} healthy programs | names the fault | alarms on healthy programs |",
        "|---|---|---|",
    ]

    def row(title: str, named: int, alarmed: int) -> None:
        lines.append(f"| {title} | {share(named, len(bad))} | {share(alarmed, len(good))} |")

    row(
        "**lightning_debug**, named first",
        sum(one["ours"]["first"] for one in bad),
        sum(bool(one["ours"]["alarms"]) for one in good),
    )
    for peer in peers:
        row(
            f"{TITLES.get(peer, peer)} {version(peer)}",
            sum(names(peer, one["found"].get(peer, []), one["planted"]) for one in bad),
            sum(bool(one["found"].get(peer)) for one in good),
        )
    row(
        f"the {len(peers)} of them together",
        sum(any(names(peer, one["found"].get(peer, []), one["planted"]) for peer in peers) for one in bad),
        sum(any(one["found"].get(peer) for peer in peers) for one in good),
    )
    return "\n".join(lines)


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faulty", type=int, default=40, help="Faulty programs in the sample.")
    parser.add_argument("--healthy", type=int, default=30, help="Healthy programs in the sample.")
    parser.add_argument("--sample", type=int, default=0, help="Seed of the sample.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the runs.")
    parser.add_argument("--only", default="", help="Programs of the sample that match this regular expression.")
    parser.add_argument("--keep", default="", help="Folder for programs and logs; else they are removed.")
    parser.add_argument("--json", default="", help="File for all rows; what it holds already is not run again.")
    parser.add_argument("--ours", default="", help="Outcomes of detection.py --json with the same seed, not run again.")
    parser.add_argument("--readme", default="", help="File that holds the two markers, to write the table to.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    peers = [peer for peer in NAMES if version(peer)]
    for missing in sorted(set(NAMES) - set(peers)):
        print(f"{missing} is not installed and is left out", file=sys.stderr)
    rows: list[dict] = []
    if options.json and Path(options.json).exists():
        rows = json.loads(Path(options.json).read_text())
    known = {row["name"] for row in rows}
    outcomes = json.loads(Path(options.ours).read_text()) if options.ours else []
    ours = {item["name"]: item for item in outcomes if item["seed"] == options.seed}
    for case in drawn(options.faulty, options.healthy, options.sample):
        if case.name in known or not re.search(options.only, f"{case.name} {case.planted}"):
            continue
        row = measured(case, options.seed, options.keep, ours)
        rows.append(row)
        named = [peer for peer in peers if names(peer, row["found"].get(peer, []), row["planted"])]
        said = {peer: texts[:2] for peer, texts in row["found"].items() if texts}
        print(f"{case.planted} {case.name}: named by {named or 'none'}; {json.dumps(said)[:600]}", flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps(rows, indent=1))
    print(table(rows, peers))
    if options.readme:
        detection.write_between(Path(options.readme), BEGIN, END, table(rows, peers))


if __name__ == "__main__":
    main()
