"""LD512 beside a validation that asks for something else, or of samples of another make."""

import numpy
import pytest

from lightning_debug.evidence.data_augmentation import AugmentedNeighbours
from lightning_debug.finding import Claim
from lightning_debug.probes.relation_leak import augmented_neighbours
from lightning_debug.probes.relation_stream import Samples
from lightning_debug.record import Record
from lightning_debug.rules.ld512_augmentation_changes_label import augmentation_changes_label

RANDOM = numpy.random.Generator(numpy.random.PCG64(0))
VOICES = {stage: RANDOM.integers(0, 16, count) for stage, count in (("train", 400), ("validate", 200))}
ROWS = {
    stage: (4.0 * (speakers[:, None] % 2) + RANDOM.normal(size=(len(speakers), 16))).astype(numpy.float32)
    for stage, speakers in VOICES.items()
}


def samples(stage, labels, shape):
    keys = numpy.arange(len(labels), dtype=numpy.uint64)
    return Samples(keys=keys, labels=labels, kind="classes", rows=ROWS[stage], shape=shape)


def told(train, held_out):
    near = AugmentedNeighbours(**augmented_neighbours(held_out, train), transform="Noise")
    return [item for item in augmentation_changes_label(Record([near])) if isinstance(item, Claim)]


@pytest.mark.parametrize(
    ("speakers", "shape", "count"),
    [
        (2, (2, 8), 1),  # samples lie among the other label's
        (16, (2, 8), 0),  # training asks for one of 16 people, validation whether two voices are of one
        (3, (2, 8), 0),  # training asks for one of three clusters, validation for one of two kinds
        (2, (), 0),  # validation gives two inputs for one
    ],
)
def test_another_question_tells_nothing_of_augmentation(speakers, shape, count):
    train = samples("train", VOICES["train"] % speakers, (2, 8))
    held_out = samples("validate", 1 - VOICES["validate"] % 2, shape)
    assert len(told(train, held_out)) == count
