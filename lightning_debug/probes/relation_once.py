"""Labels and inputs of an epoch that draws some samples several times."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lightning_debug.evidence.data_relations import LabelAlignment
from lightning_debug.probes.order_loader import draws_again
from lightning_debug.probes.relation_alignment import label_alignment
from lightning_debug.probes.relation_stream import Samples


def alignment_of_epoch(samples: Samples, sampler: Any) -> LabelAlignment | None:
    """As ``label_alignment`` in the epoch's order, where what is drawn again is no neighbour that tells a label.

    The shift is looked for among all rows, whose places count.

    Args:
        samples: The first epoch.
        sampler: Of its loader; one that draws with replacement makes copies that no dataset holds.

    >>> import torch
    >>> draw = np.random.default_rng(0)
    >>> rows, labels = draw.normal(size=(300, 8)).astype(np.float32), draw.integers(0, 2, 300)
    >>> drawn = draw.integers(0, 300, 300)
    >>> keys, given = drawn.astype(np.uint64), dict(rows=rows[drawn], labels=labels[drawn])
    >>> given = Samples(keys=keys, kind="classes", shape=(8,), **given)
    >>> sampler = torch.utils.data.RandomSampler(range(300), replacement=True)
    >>> [min(alignment_of_epoch(given, item).p_values.values()) <= 0.01 for item in (None, sampler)]
    [True, False]
    """
    found, kept = label_alignment(samples, "epoch"), len(samples.rows)
    if not draws_again(sampler):
        return found
    first = np.sort(np.unique(samples.keys[:kept], return_index=True)[1])
    if found is None or len(first) == kept:
        return found
    names = [name for name in ("keys", "labels", "rows", "pooled") if len(getattr(samples, name)) >= kept]
    parts = {name: getattr(samples, name)[first] for name in names}
    several = samples.several.taken(first) if samples.several.kind else samples.several
    once = label_alignment(dataclasses.replace(samples, several=several, **parts), "epoch")
    if once is None:
        return None
    shift = {name: getattr(found, name) for name in ("shift", "shifted_agreement", "shifted_p")}
    return dataclasses.replace(once, **shift)
