"""Samples that differ in length: what is compared, and what LD505 makes of it."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from lightning_debug.probes.relation_fingerprints import fingerprints
from lightning_debug.probes.relation_pooling import PooledSamples
from tests.data_programs import codes


def ragged(kind: str, move: int, count: int = 400) -> DataLoader:
    """Padded batches of sound or of words, whose labels are moved in the collate function."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count,), generator=generator).tolist()
    items = []
    for label in labels:
        length = int(torch.randint(60, 120, (1,), generator=generator))
        if kind == "tokens":
            words = torch.randint(1, 300, (length,), generator=generator)
            own = torch.rand(length, generator=generator) < 0.3
            items.append(torch.where(own, 300 + label, words))
        else:
            wave = torch.sin(0.3 * (1 + label) * torch.arange(length) + 6 * torch.rand(1, generator=generator))
            items.append(wave + 0.3 * torch.randn(length, generator=generator))

    def collate(indices: list[int]) -> dict[str, torch.Tensor]:
        padded = torch.nn.utils.rnn.pad_sequence([items[index] for index in indices], batch_first=True)
        own = torch.tensor([labels[index] for index in indices]).roll(move)
        return {"input_ids" if kind == "tokens" else "wave": padded, "label": own}

    return DataLoader(range(count), 20, shuffle=True, collate_fn=collate)


def test_labels_moved_in_ragged_batches_are_found():
    for kind in ("tokens", "sound"):
        assert codes(ragged(kind, 1))[:1] == ["LD505"], kind


def test_ragged_batches_are_healthy():
    for kind in ("tokens", "sound"):
        assert not codes(ragged(kind, 0)), kind


def test_padding_does_not_count():
    rows = []
    for fill in (0, 30):
        gathered = PooledSamples()
        generator = torch.Generator().manual_seed(0)
        for length in (50, 60):
            samples = torch.randn(4, length, generator=generator)
            gathered.add(torch.nn.functional.pad(samples, (0, fill)), tokens=False)
        rows.append(gathered.rows())
    assert rows[0].shape == (8, 33)
    assert abs(rows[0] - rows[1]).max() < 1e-6


def test_samples_of_one_length_are_not_pooled():
    gathered = PooledSamples()
    for _ in range(6):
        gathered.add(torch.randn(4, 50), tokens=False)
    assert gathered.is_useless
    assert not gathered.rows().shape[1]


def test_small_things_on_a_plain_background_are_told_apart():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(200, 1, 64, 64)
    for picture in pictures:
        row, column = torch.randint(0, 56, (2,), generator=generator).tolist()
        picture[0, row : row + 8, column : column + 8] = torch.rand((), generator=generator)
    assert len(set(fingerprints([pictures]).tolist())) == 200
