"""False alarms and power of the rules on how samples relate: ``python -m benchmarks.audit_relations``.

Prints, for each type of data: how many of healthy random data sets are told anything by the rules with a p-value
(wanted: none), the smallest share of copied, leaked and misaligned samples of 1000 that is found in 95 % of the data
sets, and how often labels that are moved or shuffled as a whole are found.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import TensorDataset

from lightning_debug.probes.relation_alignment import ENOUGH, label_alignment
from lightning_debug.probes.relation_raw import raw_samples
from tests.data_programs import KINDS, SEVERAL, codes, loader, make


def false_alarms(kind: str, seeds: int) -> int:
    """How many healthy data sets are told anything."""
    told = 0
    for seed in range(seeds):
        inputs, labels = make(kind, 400, seed)
        told += bool(codes(loader(inputs[:300], labels[:300]), loader(inputs[300:], labels[300:])))
    return told


def smallest_share(fault: Callable[[str, int, int], list[str]], code: str, kind: str, seeds: int) -> str:
    """The smallest share of 1000 samples that is found for at least 95 % of the seeds."""
    for count in (5, 10, 15, 20, 30, 50, 100):
        hits = 0
        for seed in range(seeds):
            hits += code in fault(kind, count, seed)
            if hits < 0.95 * seeds - (seeds - seed - 1):
                break  # out of reach
        if hits >= 0.95 * seeds:
            return f"{count / 10:.1f} %"
    return "-"


def copied(kind: str, count: int, seed: int) -> list[str]:
    """Copies of ``count`` samples beside 1000."""
    inputs, labels = make(kind, 1000, seed)
    return codes(loader(torch.cat([inputs, inputs[:count]]), torch.cat([labels, labels[:count]])))


def leaked(kind: str, count: int, seed: int) -> list[str]:
    """``count`` training samples per thousand in a validation set of 1000."""
    inputs, labels = make(kind, 2000, seed)
    train = loader(
        torch.cat([inputs[:1000], inputs[1000 : 1000 + count]]), torch.cat([labels[:1000], labels[1000 : 1000 + count]])
    )
    return codes(train, loader(inputs[1000:], labels[1000:]))


def alignment(kind: str, seeds: int) -> tuple[float, float, float]:
    """Shares: aligned labels found independent, moved labels found moved, shuffled labels found independent."""
    found = np.zeros(3)
    for seed in range(seeds):
        inputs, labels = make(kind, 1000, seed)
        shuffled = labels[torch.randperm(1000, generator=torch.Generator().manual_seed(seed))]
        for place, given in enumerate((labels, labels.roll(seed % 7 + 1, 0), shuffled)):
            found[place] += moved(inputs, given) == seed % 7 + 1 if place == 1 else independent(inputs, given)
    return tuple(found / seeds)


def independent(inputs: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether every test says that labels tell nothing of inputs."""
    told = label_alignment(raw_samples(TensorDataset(inputs, labels)))
    return told is not None and min(told.p_values.values()) > ENOUGH


def moved(inputs: torch.Tensor, labels: torch.Tensor) -> int:
    """By how many rows labels are found moved; 0 for none."""
    told = label_alignment(raw_samples(TensorDataset(inputs, labels)))
    return told.shift if told is not None and told.shifted_p < 1e-6 else 0


def misaligned(kind: str, seeds: int) -> tuple[str, str]:
    """The smallest share of samples with labels of others, and of samples after a lost row, that 95 % are found of."""

    def shuffled(inputs: torch.Tensor, labels: torch.Tensor, count: int, seed: int) -> bool:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        return independent(inputs, torch.cat([labels[:count][order], labels[count:]]))

    def late(inputs: torch.Tensor, labels: torch.Tensor, count: int, _: int) -> bool:
        cut = 1000 - count
        return moved(inputs, torch.cat([labels[:cut], labels[cut:].roll(1, 0)])) == 1

    found = []
    for fault in (shuffled, late):
        smallest = "-"
        for share in (1.0, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4):
            hits = 0
            for seed in range(seeds):
                hits += fault(*make(kind, 1000, seed), int(1000 * share), seed)
                if hits < 0.95 * seeds - (seeds - seed - 1):
                    break  # out of reach
            if hits < 0.95 * seeds:
                break
            smallest = f"{share:.0%}"
        found.append(smallest)
    return found[0], found[1]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="Of healthy data.")
    parser.add_argument("--power", type=int, default=40, help="Seeds for each share of faulty samples.")
    parser.add_argument("--kinds", nargs="+", default=[*KINDS, *SEVERAL])
    options = parser.parse_args()
    seeds, few, kinds = options.seeds, options.power, options.kinds
    torch.set_num_threads(1)
    if seeds:
        print(f"{seeds} healthy data sets of each type: how many are told anything (LD503-LD520)", flush=True)
    for kind in kinds if seeds else ():
        print(f"{kind:<9} {false_alarms(kind, seeds)}", flush=True)
    print(f"power at n = 1000, {few} seeds: smallest share found of 95 %; aligned called independent, moved, shuffled")
    for kind in kinds:
        shares = smallest_share(copied, "LD507", kind, few), smallest_share(leaked, "LD510", kind, few)
        aligned = "   ".join(f"{share:.2f}" for share in alignment(kind, few))
        wrong = "  ".join(misaligned(kind, few))
        print(f"{kind:<9} copies {shares[0]}  leaks {shares[1]}  misaligned {wrong}  ({aligned})", flush=True)


if __name__ == "__main__":
    main()
