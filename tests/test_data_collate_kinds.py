"""Inputs of two kinds that a collate function puts in two orders, and those that it only seems to part."""

import random

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from lightning_debug.probes.collate_order import parted

GENERATOR = torch.Generator().manual_seed(0)
SAMPLES = [torch.randn(int(torch.randint(5, 12, (), generator=GENERATOR)), 4, generator=GENERATOR) for _ in range(10)]


def captioned(items, order):
    """Pictures and what is written of them."""
    texts = [(1000 * row.abs().sum()).long() % torch.tensor([7, 11, 13, 17, 19]) for row in items]
    return {"picture": pad_sequence(items, batch_first=True), "text": torch.stack([texts[place] for place in order])}


def with_text(items):
    return captioned(items, range(len(items)))


def with_any_text(items):
    return captioned(items, torch.randperm(len(items)).tolist())


def with_both_texts(items):
    batch = with_text(items)
    return {**batch, "other": batch["text"].roll(1, 0)}


def with_sorted_text(items):
    return captioned(items, sorted(range(len(items)), key=lambda place: len(items[place])))


def sorted_together(items):
    return with_text(sorted(items, key=len))


def found(collate):
    state = torch.get_rng_state(), random.getstate()

    def seed():
        torch.set_rng_state(state[0])
        random.setstate(state[1])

    return parted(SAMPLES, collate, seed)


@pytest.mark.parametrize("collate", [with_text, with_any_text, with_both_texts, sorted_together])
def test_pictures_and_texts_that_are_paired_on_purpose(collate):
    assert found(collate) is None


def test_texts_that_are_sorted_and_their_pictures_not():
    seen = found(with_sorted_text)
    assert seen is not None
    assert (seen.field, seen.inputs) == ("batch['text']", "batch['picture']")
    assert seen.moved > 2
