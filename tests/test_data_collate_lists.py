"""A collate function that parts pictures from lists of what is in them."""

import pytest
import torch

from lightning_debug.probes.collate_order import parted


def boxes(apart, listed):
    """Pictures with as many boxes as they happen to have, as detectors are given them."""

    def collate(items):
        pictures, targets = zip(*items, strict=True)
        if apart:
            targets = sorted(targets, key=lambda target: len(target["labels"]))
        return (list(pictures) if listed else torch.stack(pictures)), list(targets)

    return collate


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_targets_in_lists(apart, listed):
    generator = torch.Generator().manual_seed(0)
    items = []
    for index in range(8):
        count = (5 * index) % 4 + 1
        target = {"boxes": torch.rand(count, 4, generator=generator), "labels": torch.arange(count)}
        items.append((torch.rand(1, 6, 6, generator=generator), target))
    said = parted(items, boxes(apart, listed), lambda: None)
    assert (said.field if said is not None else "") == ("batch[1]" if apart else "")
