"""False alarms and power of the rules on how samples relate: ``python -m benchmarks.audit_relations``.

Prints, for each type of data: how many of healthy random data sets are told anything by each test with a p-value
(wanted: none), the smallest share of copied and of leaked samples of 1000 that is found, how often labels that are
moved or shuffled are found, and the time and memory that one batch costs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import TensorDataset

from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.relation_alignment import label_alignment
from lightning_debug.probes.relation_raw import raw_samples
from lightning_debug.probes.relation_stream import SampleStream
from tests.data_programs import KINDS, codes, loader, make


def false_alarms(kind: str, seeds: int) -> int:
    """How many healthy data sets are told anything."""
    told = 0
    for seed in range(seeds):
        inputs, labels = make(kind, 400, seed)
        told += bool(codes(loader(inputs[:300], labels[:300]), loader(inputs[300:], labels[300:])))
    return told


def smallest_share(fault: Callable[[str, int, int], list[str]], code: str, kind: str, seeds: int) -> str:
    """The smallest share of 1000 samples that is found for at least 95 % of the seeds."""
    for count in (5, 10, 20, 30, 50, 100):
        if sum(code in fault(kind, count, seed) for seed in range(seeds)) >= 0.95 * seeds:
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
        for place, given in enumerate((labels, labels.roll(seed % 7 + 1), shuffled)):
            samples = raw_samples(TensorDataset(inputs, given))
            assert samples is not None
            told = label_alignment(samples)
            assert told is not None
            moved = told.shift == seed % 7 + 1 and told.shifted_p < 1e-6
            found[place] += moved if place == 1 else min(told.p_values.values()) > 0.01
    return tuple(found / seeds)


def cost(batch: tuple[torch.Tensor, ...], repeats: int = 20) -> tuple[float, float]:
    """Milliseconds a batch, at first and when the first rows are kept; roles are known from the first batch on."""
    fields, size = batch_roles(batch), len(batch[0])
    times = []
    stream = SampleStream()
    for _ in range(repeats):
        start = time.perf_counter()
        stream.add(fields, size)
        times.append(time.perf_counter() - start)
    return 1e3 * times[0], 1e3 * float(np.median(times[-5:]))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    print(f"{seeds} seeds   false alarms   copies   leaks   aligned called independent   moved found   shuffled found")
    for kind in KINDS:
        few = max(3, seeds // 5)
        shares = smallest_share(copied, "LD507", kind, few), smallest_share(leaked, "LD510", kind, few)
        aligned = "   ".join(f"{share:.2f}" for share in alignment(kind, seeds))
        print(f"{kind:<9} {false_alarms(kind, seeds):>3}   {shares[0]:>7} {shares[1]:>7}   {aligned}", flush=True)
    for name, batch in {
        "64 x 3 x 224 x 224 floats": (torch.randn(64, 3, 224, 224), torch.arange(64) % 10),
        "32 x 512 tokens": (torch.randint(0, 1000, (32, 512)), torch.arange(32) % 10),
    }.items():
        first, later = cost(batch)
        print(f"{name}: {first:.2f} ms at first, {later:.2f} ms later; 16 bytes a sample")


if __name__ == "__main__":
    main()
