"""Whether labels belong to their inputs: in memory, as they came, and as the dataset gives them when asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_debug.callbacks._data_leaks import ordering_of
from lightning_debug.callbacks._data_part import Source
from lightning_debug.evidence.data_relations import LabelAlignment
from lightning_debug.experiments.asking import put_back
from lightning_debug.experiments.clock import working_time
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.own_copy import own_copy
from lightning_debug.probes.relation_alignment import ENOUGH, label_alignment
from lightning_debug.probes.relation_draws import is_small
from lightning_debug.probes.relation_once import alignment_of_epoch
from lightning_debug.probes.relation_raw import rows_of
from lightning_debug.probes.relation_stream import Samples, SampleStream

MOST, SECONDS = 512, 2.0
"""So many samples are asked for, while that takes no more of our own time than this."""


def alignment(samples: Samples, raw: Samples | None, source: Source | None, *, fixed: bool) -> LabelAlignment | None:
    """In the dataset's order, where that is known; and in the epoch's, where labels may be moved in a batch.

    Args:
        samples: The first epoch.
        raw: What the dataset holds in memory, where that is known.
        source: The loader.
        fixed: Whether the loader delivers what is in memory.
    """
    told = label_alignment(raw, "dataset") if raw is not None else None
    if told is None or not depend(told) or _differs(samples, raw):
        streamed = alignment_of_epoch(samples, ordering_of(source)[0])
        if streamed is not None and (told is None or depend(streamed) or depend(told)):
            told = streamed  # what the net is given is what counts
        elif streamed is not None and told is not None and streamed.shifted_p < told.shifted_p:
            told = streamed
        unsure = told is not None and not depend(told)
    else:  # what is in memory may be right, and what is made of it may not
        streamed = None if fixed else alignment_of_epoch(samples, ordering_of(source)[0])
        unsure = streamed is not None and not depend(streamed)
    asked = alignment_when_asked(source) if unsure else None
    return asked if asked is not None and told is not None and asked.shifted_p < told.shifted_p else told


def depend(found: LabelAlignment) -> bool:
    """Whether any test finds that labels depend on inputs."""
    return min(found.p_values.values()) <= ENOUGH


def _differs(samples: Samples, raw: Samples | None) -> bool:
    """Whether the loader pairs inputs with other labels than the dataset does."""
    if raw is None or samples.kind != raw.kind or samples.several.kind != raw.several.kind or not len(raw):
        return False
    if not samples.kind and not samples.several.kind:
        return False
    order = np.argsort(raw.keys, kind="stable")
    spots = order[np.minimum(np.searchsorted(raw.keys, samples.keys, sorter=order), len(raw) - 1)]
    known = raw.keys[spots] == samples.keys
    unequal = raw.labels[spots] != samples.labels if samples.kind else samples.several.differs(spots, raw.several)
    return bool(known.any()) and float(unequal[known].mean()) > 0.2


def alignment_when_asked(source: Source | None) -> LabelAlignment | None:
    """Whether labels fit their inputs, or those of other rows, in the order of the dataset.

    Shuffled as the loader delivers them, rows that are off by one cannot be told from labels without any meaning. The
    generators keep their state, and the dataset itself is not asked.
    """
    if source is None or source.streams or source.collate_fn is None or source.hands_on_bags(2):
        return None
    dataset = rows_of(source.dataset).base
    if not is_small(dataset):
        return None
    try:
        with put_back(source.collate_fn, dataset):
            count, batch = _asked(dataset, source.collate_fn)
    except Exception:  # a dataset, or a collate function, that wants to be asked by its loader only
        return None
    fields = batch_roles(batch)
    stream = SampleStream()
    stream.add(fields, next((item.size for item in fields if item.size), 0))
    samples = stream.samples()
    return label_alignment(samples) if len(samples) == count else None


def _asked(dataset: Any, collate: Any) -> tuple[int, Any]:
    """How many samples were asked for, and the batch that they make."""
    own, begun, items = own_copy(dataset), working_time(), []
    for place in range(min(MOST, len(own))):
        items.append(own[place])
        if working_time() - begun > SECONDS:
            break
    return len(items), collate(items)
