"""Batches with several fields of labels: each is compared with itself, and only fields of one class a sample count."""

from __future__ import annotations

import pytest
import torch

from lightning_debug.evidence.data import DeliveredSamples, LabelCounts
from lightning_debug.evidence.data_values import ClassFit
from lightning_debug.finding import Claim
from lightning_debug.probes.data_counts import ClassCounts
from lightning_debug.record import Record
from lightning_debug.registry import get
from lightning_debug.rules._curves import judged_samples


def claims(code, *evidence):
    return [item for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


def counted(stage, field, *counts, more=False):
    classes = tuple(index for index, count in enumerate(counts) if count)
    return LabelCounts(
        stage=stage, field=field, classes=classes, counts=tuple(filter(None, counts)), complete=not more, more=more
    )


TRAIN, VAL = ClassFit(stage="train", units=5), ClassFit(stage="validate", units=5)


def test_each_field_of_labels_is_compared_with_itself():
    category = counted("train", "category", *[60] * 10), counted("validate", "category", *[20] * 10)
    label = counted("train", "label", *[100] * 5), counted("validate", "label", *[30] * 5)
    for order in ((*category, *label), (*label, *category), (label[0], *category, label[1])):
        assert not claims("LD516", *order, TRAIN, VAL)
    unseen = counted("train", "label", *[100] * 4), label[1]
    assert [item.subject for item in claims("LD516", *category, *unseen, TRAIN, VAL)] == ["label"]


def test_a_head_is_not_held_against_the_labels_of_another():
    gender, age = counted("train", "gender", 250, 250), counted("train", "age", *[100] * 5)
    assert not claims("LD516", gender, age, TRAIN)
    assert claims("LD516", gender, TRAIN)


def test_labels_under_another_name_may_be_those_of_any_field_of_training():
    source, target = counted("train", "a", *[100] * 4), counted("train", "b", *[100] * 5)
    val = counted("validate", "y", *[30] * 5)
    assert not claims("LD516", source, target, val, TRAIN, VAL)
    assert claims("LD516", source, val, TRAIN, VAL)


def test_a_field_without_a_whole_count_in_training_is_not_judged():
    label = counted("train", "label", *[100] * 4)
    tags = counted("train", "tags", more=True), counted("validate", "tags", *[30] * 5)
    assert not claims("LD516", label, counted("validate", "label", *[30] * 4), *tags, TRAIN, VAL)


@pytest.mark.parametrize(("counts", "found"), [((90, 20), True), ((55, 55), False)])
def test_the_rare_class_is_one_of_the_labels_that_the_loss_takes(counts, found):
    fit = ClassFit(stage="validate", units=2, true=(90, 20), predicted=(110, 0), hits=(90, 0))
    fields = counted("train", "sex", 970, 30), counted("validate", "sex", *counts)
    other = counted("train", "healthy", 500, 500), counted("validate", "healthy", 54, 56)
    assert bool(claims("LD511", *fields, *other, fit)) is found


def test_only_rows_that_mark_one_class_are_counted_as_classes():
    places = torch.randint(1, 9, (32, 5))
    plain, marked = ClassCounts(), ClassCounts(one_hot=True)
    plain.add(places)
    marked.add(torch.nn.functional.one_hot(torch.arange(32) % 4))
    assert not plain.evidence("train", 0, "category", complete=True).complete
    assert marked.evidence("train", 0, "label", complete=True).counts == (8, 8, 8, 8)


def test_validation_is_as_large_as_its_largest_field_of_labels():
    label, tags = counted("validate", "label", 30, 30), LabelCounts(stage="validate", field="tags")
    delivered = DeliveredSamples(stage="validate", delivered=64)
    assert judged_samples(Record([label, tags, delivered])) == 60
    assert judged_samples(Record([tags, delivered])) == 64
    assert judged_samples(Record([counted("validate", "mask", more=True), delivered])) == 0
    assert judged_samples(Record([delivered])) == 0
