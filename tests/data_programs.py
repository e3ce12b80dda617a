"""Healthy data of four types, and the parts of DataAuditor that look at relations, run over loaders without a Trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import registry
from lightning_debug.callbacks._data_draws import DataDraws
from lightning_debug.callbacks._data_part import DataContext
from lightning_debug.callbacks._data_relations import DataRelations
from lightning_debug.evidence import Moment
from lightning_debug.judge import Verdict, judge
from lightning_debug.probes.batch_roles import batch_roles, batch_size_of
from lightning_debug.record import Record

KINDS = ["image", "tabular", "token", "series"]
SEVERAL = ["multi-hot", "tags", "vectors", "maps"]
"""Types of data whose labels are more than one number a sample."""


class Context(DataContext):
    """A run that is only its loaders."""

    def __init__(self, train: Any, validation: Any = None, **options: Any) -> None:
        state = SimpleNamespace(status=SimpleNamespace(value="interrupted"))
        self.trainer = SimpleNamespace(train_dataloader=train, val_dataloaders=validation, state=state, **options)
        self.pl_module = None

    def moment(self, batch: int | None = None) -> Moment:
        """No time passes."""
        return Moment(stage="setup")


def make(kind: str, count: int = 600, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels of one type, in random order, that can be learned."""
    generator = torch.Generator().manual_seed(seed)
    if kind in SEVERAL:
        return _with_several(kind, count, generator)
    labels = torch.randint(0, 4, (count,), generator=generator)
    if kind == "token":
        common = torch.randint(0, 40, (count, 24), generator=generator)
        rare = torch.rand(count, 24, generator=generator) < 0.3
        return torch.where(rare, 40 + labels[:, None], common), labels
    if kind == "series":
        phase = 6 * torch.rand(count, 1, generator=generator)
        wave = torch.sin(phase + (1 + labels[:, None]) * torch.arange(32) / 5)
        return (wave + 0.3 * torch.randn(count, 32, generator=generator))[..., None], labels
    shape = (1, 8, 8) if kind == "image" else (12,)
    centres = torch.randn(4, *shape, generator=torch.Generator().manual_seed(99))
    return centres[labels] + 0.7 * torch.randn(count, *shape, generator=generator), labels


def _with_several(kind: str, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Several classes at once (related, one of them rare, none for many rows); vectors; maps of where something is."""

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=generator)

    fixed = torch.Generator().manual_seed(98)
    if kind in ("multi-hot", "tags"):
        common = noise(1)
        labels = (0.7 * common + noise(6) > torch.tensor([0.5, 0.7, 1.0, 1.0, 1.3, 2.4])).float()
        if kind == "multi-hot":
            return labels @ torch.randn(6, 12, generator=fixed) + 0.7 * noise(12), labels
        words = torch.randint(0, 40, (count, 24), generator=generator)
        tagged = torch.rand(count, 24, generator=generator) < 0.4
        which = torch.multinomial(labels + 1e-6, 24, replacement=True, generator=generator)
        return torch.where(tagged & (labels.sum(1, keepdim=True) > 0), 40 + which, words), labels
    if kind == "vectors":
        inputs = noise(12)
        return inputs, inputs @ torch.randn(12, 3, generator=fixed) + 0.8 * noise(3) ** 3
    places = torch.rand(count, 2, 1, generator=generator) * 8
    grid = torch.arange(8) + 0.5
    bumps = torch.exp(-((grid - places) ** 2) / 3)
    image = bumps[:, 0, :, None] * bumps[:, 1, None, :]
    return (image + 0.3 * noise(8, 8))[:, None], image[:, ::2, ::2].contiguous()[:, None]


def loader(*columns: Any, shuffle: bool = True, **options: Any) -> DataLoader:
    """A loader of batches of 20."""
    dataset = columns[0] if len(columns) == 1 and not isinstance(columns[0], torch.Tensor) else TensorDataset(*columns)
    return DataLoader(dataset, **{"batch_size": 20, "shuffle": shuffle, **options})


def found(train: Any, validation: Any = None, *, epochs: int = 1, **options: Any) -> Verdict:  # noqa: C901 - in order
    """What the rules say of loaders."""
    context = Context(train, validation, **options)
    record = Record()
    parts = [DataRelations(), DataDraws()]

    def take(evidence: Any) -> None:
        for item in evidence or ():
            record.add(item)

    def read(stage: Any, given: Any, epoch: int, index: int = 0) -> None:
        for number, batch in enumerate(given):
            fields = batch_roles(batch)
            size = batch_size_of([item.tensor.shape for item in fields])
            for part in parts:
                take(part.saw(stage, index, epoch, number, fields, size, audited=number < 32, batch=batch))

    for part in parts:
        part.begin(context)

    def end(stage: Any) -> None:
        for part in parts:
            take(part.end_of_epoch(stage))

    validations = validation if isinstance(validation, list) else [validation] * (validation is not None)
    for epoch in range(epochs):
        read("train", train, epoch)
        for index, given in enumerate(validations):
            read("validate", given, epoch, index)
        end("validate")
        end("train")
    for part in parts:
        take(part.finish())
    rules = [one for one in registry.all_rules() if one.code in CODES]
    return judge(record, rules, strict=True)


CODES = ("LD503", "LD504", "LD505", "LD507", "LD510", "LD512", "LD513", "LD517", "LD520")


def codes(train: Any, validation: Any = None, **options: Any) -> list[str]:
    """The codes found, causes first."""
    torch.manual_seed(0)
    numpy.random.seed(0)
    return [item.code for item in found(train, validation, **options).findings]
