"""Rules on values that go by what the values are: whole numbers, zeros and ones, tokens beside labels."""

import numpy as np
import pytest
import torch

from lightning_debug.evidence.data import FieldValues, LabelCounts
from lightning_debug.evidence.data_values import ClassFit
from lightning_debug.evidence.model import InputDependence
from lightning_debug.finding import Claim
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.data_values import ValueMoments
from lightning_debug.record import Record
from lightning_debug.registry import get


def claims(code, *evidence):
    return [item.message for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


def values(inputs, stage="train"):
    batches = [batch_roles((part, torch.arange(len(part)) % 3))[0] for part in inputs.split(32)]
    moments = ValueMoments(batches[0], stage, 0)
    for field in batches:
        moments.add(field)
    return moments.evidence()


COUNTS = torch.from_numpy(np.random.default_rng(0).poisson(np.linspace(1, 12, 20), (192, 20)).astype(np.float32))


@pytest.mark.parametrize(
    ("train", "val", "said"),
    [
        (COUNTS.log1p(), COUNTS, 1),
        (COUNTS, COUNTS.log1p(), 1),
        (COUNTS, COUNTS.flip(0), 0),
        (COUNTS.log1p(), COUNTS.flip(0).log1p(), 0),
        (COUNTS + torch.rand(192, 20), COUNTS, 0),
    ],
    ids=["log in training", "log in validation", "counts", "logs", "noise in training"],
)
def test_counts_in_one_set_and_their_logarithms_in_the_other(train, val, said):
    assert len(claims("LD515", values(train), values(val, "validate"))) == said


def test_a_cast_to_whole_numbers_leaves_zeros_that_nothing_depends_on():
    cast = torch.zeros(96, 1, 12, 12)
    cast[:20, 0, 3, 4] = 1
    constant = InputDependence(
        function="cross_entropy", samples=13, steps=100, change=0.0, scale=0.3, spread=1.0, targets_vary=True
    )
    assert not claims("LD508", values(cast)), "events may be rare"
    (told,) = claims("LD508", values(cast), constant)
    assert "76 of 96" in told


def labelled(classes, counts):
    return LabelCounts(stage="train", field="batch[1]", classes=tuple(classes), counts=tuple(counts), complete=True)


@pytest.mark.parametrize(
    ("classes", "count", "units", "said"),
    [
        (range(7), 100, 1000, 1),
        (range(7), 12, 1000, 0),
        (range(300), 100, 1000, 0),
        ([3, 17, 40], 100, 1000, 0),
    ],
    ids=["a copied head", "few samples", "a vocabulary", "some words"],
)
def test_a_thousand_units_for_a_few_classes(classes, count, units, said):
    seen = labelled(classes, [count] * len(classes))
    assert len(claims("LD516", seen, ClassFit(stage="train", units=units))) == said


@pytest.mark.parametrize(("highest", "said"), [(299.0, 1), (5.0, 0)], ids=["texts", "the units' own tokens"])
def test_a_label_for_each_text_is_no_token(highest, said):
    stars, fit = labelled(range(1, 6), [90] * 5), ClassFit(stage="train", units=6)
    texts = FieldValues(stage="train", field="batch[0]", role="tokens", highest=highest)
    assert len(claims("LD516", texts, stars, fit)) == said
    assert not claims("LD516", texts, labelled([0, 1, 2, 4, 5], [90] * 5), fit)
