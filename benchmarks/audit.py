"""False alarms of the rules on values over seeds of healthy random data, and what the auditor costs a batch.

Run ``python -m benchmarks.audit [seeds]``. Each row is a kind of data: how many of the seeds had an alarm, by rule.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from unittest import mock

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.overhead import quiet_trainer
from benchmarks.overhead_own import TAP, Meter
from lightning_debug import DataAuditor
from lightning_debug.callbacks._data_parts import PARTS_OF_DATA
from lightning_debug.callbacks._data_tap import BatchTap
from lightning_debug.evidence import Evidence
from lightning_debug.finding import Claim
from lightning_debug.probes.batch_roles import Field, batch_roles, with_tensors
from lightning_debug.probes.data_counts import ClassCounts
from lightning_debug.probes.data_reach import ReachTrace
from lightning_debug.probes.data_values import ValueMoments
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.data_programs import Context

CODES = ("LD501", "LD502", "LD508", "LD509", "LD514", "LD515", "LD516")
Sample = tuple[Tensor, Tensor, nn.Module]


def table(generator: torch.Generator) -> Sample:
    """Correlated features of moderately different scale, three uneven classes."""
    width = int(torch.randint(1, 20, (1,), generator=generator))
    labels = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 400, replacement=True, generator=generator)
    centres = torch.randn(3, width, generator=generator) * 2
    noise = torch.randn(400, width, generator=generator) @ torch.randn(width, width, generator=generator) / width**0.5
    inputs = centres[labels] + noise
    scales = torch.exp(torch.randn(width, generator=generator))
    return inputs * scales, labels, nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 3))


def heavy_tails(generator: torch.Generator) -> Sample:
    """Log-normal features."""
    inputs, labels, model = table(generator)
    return (inputs / inputs.std(0)).exp().clamp(max=200).log1p(), labels, model


def images(generator: torch.Generator) -> Sample:
    """Smooth images between 0 and 1 with black borders."""
    coarse = torch.rand(200, 3, 4, 4, generator=generator)
    inputs = nn.functional.interpolate(coarse, size=16, mode="bilinear")
    inputs[:, :, :2] = 0
    labels = torch.randint(0, 5, (200,), generator=generator)
    return inputs, labels, nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 5))


def tokens(generator: torch.Generator) -> Sample:
    """Sentences of common and rare words with padding."""
    ids = (torch.rand(300, 20, generator=generator) ** 3 * 1000).long()
    ids[:, 12:] *= (torch.rand(300, 8, generator=generator) < 0.5).long()
    labels = torch.randint(0, 2, (300,), generator=generator)
    return ids, labels, nn.Sequential(nn.Embedding(1000, 8), nn.Flatten(), nn.Linear(160, 2))


def series(generator: torch.Generator) -> Sample:
    """Random walks of several channels, standardised over the training set."""
    inputs = torch.randn(300, 40, 3, generator=generator).cumsum(1)
    inputs = (inputs - inputs.mean((0, 1))) / inputs.std((0, 1))
    labels = torch.randint(0, 2, (300,), generator=generator)
    return inputs, labels, nn.Sequential(nn.Flatten(), nn.Linear(120, 2))


def sparse(generator: torch.Generator) -> Sample:
    """Bags of words."""
    rates = torch.rand(1, 300, generator=generator) ** 8 * 10
    inputs = torch.poisson(rates.expand(400, 300), generator=generator)
    labels = torch.randint(0, 3, (400,), generator=generator)
    return inputs, labels, nn.Sequential(nn.Linear(300, 16), nn.ReLU(), nn.Linear(16, 3))


KINDS: tuple[Callable[[torch.Generator], Sample], ...] = (table, heavy_tails, images, tokens, series, sparse)


def evidence(inputs: Tensor, labels: Tensor, model: nn.Module) -> Iterator[Evidence]:
    """What the auditor would record: a random quarter is the validation set."""
    cut = len(inputs) * 3 // 4
    for stage, part in (("train", slice(0, cut)), ("validate", slice(cut, None))):
        x, y, kept, counts = inputs[part], labels[part], {}, ClassCounts()
        for step, start in enumerate(range(0, len(x), 32)):
            batch = x[start : start + 32], y[start : start + 32]
            fields = batch_roles(batch)
            counts.add(batch[1])
            for field in fields:
                if field.role in ("input", "tokens"):
                    kept.setdefault(field.path, ValueMoments(field, stage, 0)).add(field)
            if step < 3:
                with (watch := ReachTrace(model, batch, fields, stage)):
                    nn.functional.cross_entropy(model(batch[0]), batch[1])
                yield from watch.layers
                yield from watch.classes
        yield from (item.evidence() for item in kept.values())
        yield counts.evidence(stage, 0, "batch[1]", complete=True)


def false_alarms(seeds: int) -> None:
    """Prints the share of seeds with an alarm, by kind of data and rule."""
    print(f"{'data':<12} {'seeds':>5}  alarms")
    for kind in KINDS:
        found: Counter[str] = Counter()
        for seed in range(seeds):
            torch.manual_seed(seed)
            record = Record(evidence(*kind(torch.Generator().manual_seed(seed))))
            found.update(code for code in CODES if any(isinstance(item, Claim) for item in get(code).function(record)))
        print(f"{kind.__name__:<12} {seeds:>5}  {dict(found) or 'none'}")


def cost() -> None:
    """Prints the time that all parts of DataAuditor add to a batch: CPU time of this thread, median."""
    generator = torch.Generator().manual_seed(0)
    cases = {
        "64x3x224x224 floats": (torch.rand(64, 3, 224, 224), torch.randint(0, 10, (64,), generator=generator)),
        "32x512 tokens": (torch.randint(0, 30000, (32, 512)), torch.randint(0, 2, (32,), generator=generator)),
        "64x8 floats": (torch.rand(64, 8), torch.rand(64)),
    }
    print(f"{'batch':<22} {'first':>10} {'to the 32nd':>12} {'later':>10}")
    for name, (inputs, labels) in cases.items():
        context, parts, times = Context(None), [kind() for kind in PARTS_OF_DATA], []
        for part in parts:
            part.begin(context)
        known: list[Field] = []
        for number in range(96):
            batch = inputs.clone(), labels  # no longer in the cache, as after a loader
            begin = time.thread_time()
            fields = with_tensors(known, batch) if known else batch_roles(batch)
            known = fields or []
            for part in parts:
                part.saw("train", 0, 0, number, known, len(labels), audited=number < 32, batch=batch)
            times.append(1e3 * (time.thread_time() - begin))
        told = times[0], median(times[1:32]), median(times[32:])
        print(f"{name:<22} {told[0]:>7.2f} ms {told[1]:>9.2f} ms {told[2]:>7.2f} ms", flush=True)


def memory(batches: int = 2000) -> None:
    """Prints what a further sample takes of memory in the first epoch, when all is kept that is ever kept."""
    generator = torch.Generator().manual_seed(0)
    cases: dict[str, Callable[[], Tensor]] = {
        "64 floats": lambda: torch.rand(64, 64, generator=generator),
        "3x32x32 image": lambda: torch.rand(64, 3, 32, 32, generator=generator),
        "128 tokens": lambda: torch.randint(0, 30000, (64, 128), generator=generator),
    }
    print(f"{'sample':<22} bytes a sample, after {64 * batches} of them")
    for name, made in cases.items():
        context, parts, held = Context(None), [kind() for kind in PARTS_OF_DATA], 0
        for part in parts:
            part.begin(context)
        known: list[Field] = []
        for number in range(2 * batches):
            batch = made(), torch.randint(0, 10, (64,), generator=generator)
            known = (with_tensors(known, batch) if known else batch_roles(batch)) or []
            for part in parts:
                if number < 32 or part.wants("train"):
                    part.saw("train", 0, 0, number, known, 64, audited=number < 32, batch=batch)
            held = anonymous() if number == batches else held
        print(f"{name:<22} {(anonymous() - held) / (64 * (batches - 1)):.1f}", flush=True)


def anonymous() -> int:
    """Bytes that this process holds itself."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


class Classifier(pl.LightningModule):
    """One layer, so that a step takes next to no time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 4)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), 0.01)


def cadence(epochs: int = 6, batches: int = 100) -> None:
    """Prints what DataAuditor takes of each step of a fit, hooks included: CPU time of this thread, median by epoch."""
    print(f"{'batch':<22} ms a step in epochs 1 to {epochs} (of the first from batch 33 on)")
    for shape in ((64, 8), (128, 784), (32, 3, 32, 32)):
        meter, auditor = Meter(), DataAuditor()
        for name in filter(lambda name: "batch" in name or "backward" in name or "optim" in name, dir(pl.Callback)):
            setattr(auditor, name, meter.timed(getattr(auditor, name), TAP))
        inputs = torch.rand(batches * shape[0], *shape[1:])
        loader = DataLoader(TensorDataset(inputs, torch.randint(0, 4, (len(inputs),))), shape[0], shuffle=True)
        with mock.patch.object(BatchTap, "__call__", meter.timed(BatchTap.__call__, TAP)):
            trainer = quiet_trainer([meter, auditor], max_steps=epochs * batches)
            trainer.fit(Classifier(inputs[0].numel()), loader)
        steps = [taken[TAP] for taken in meter.ours[1:]]
        parts = [steps[32:batches], *(steps[batches * one : batches * one + batches] for one in range(1, epochs))]
        print(
            f"{'x'.join(map(str, shape)):<22} " + "  ".join(f"{1e3 * median(part):.3f}" for part in parts), flush=True
        )


def reference() -> None:
    """Prints what a step of a ResNet-50 costs on one core: batch of 8, for a batch of 64 eight times that."""
    model = resnet50()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    inputs, labels = torch.randn(8, 3, 224, 224), torch.arange(8)
    for _ in range(2):
        begin = time.thread_time()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        seconds = time.thread_time() - begin
    print(
        f"ResNet-50, a step of 8: {seconds:.2f} s; of 64 about {8 * seconds:.0f} s, 1 % of that {80 * seconds:.0f} ms"
    )


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        sizes = (before, width, 1, 1), (width, width, 3, stride), (width, after, 1, 1)
        layers = [
            nn.Sequential(nn.Conv2d(one, two, kernel, step, kernel // 2, bias=False), nn.BatchNorm2d(two))
            for one, two, kernel, step in sizes
        ]
        self.main = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        other = before != after or stride > 1
        short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.short: nn.Module = short if other else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.main(inputs) + self.short(inputs))


def resnet50() -> nn.Module:
    """25.6 million parameters."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    before = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for place in range(count):
            layers.append(Bottleneck(before, width, 1 if place else stride))
            before = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1000))


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ.update(LIGHTNING_DEBUG_CONSOLE="0", LIGHTNING_DEBUG_REPORT_DIR=tempfile.mkdtemp())
    false_alarms(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
    cost()
    memory()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    cadence()
    reference()
