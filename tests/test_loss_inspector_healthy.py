"""What LossInspector must be silent on: healthy programs that look like one of its faults."""

import pytest

from tests.helpers import alarms
from tests.losses import (
    healthy_likelihoods,
    healthy_ranges,
    healthy_shapes,
    healthy_softmax_inside,
    recipes_of_classes,
    recipes_of_values,
)
from tests.losses.base import QUICK, inspected, programs

PROGRAMS = programs(
    healthy_likelihoods,
    healthy_softmax_inside,
    healthy_ranges,
    healthy_shapes,
    recipes_of_classes,
    recipes_of_values,
)
UNKNOWN = {
    healthy_softmax_inside.SupervisedContrastive,
    recipes_of_classes.DeepClustering,
    recipes_of_values.Flow,
    recipes_of_values.PaddedTags,
    recipes_of_values.Physics,
}
"""Losses that hold no comparison that is known: they are not judged, and the report says so."""


@pytest.mark.parametrize("kind", PROGRAMS, ids=lambda kind: kind.__name__)
def test_healthy_program_is_silent(kind, monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    report, graphs = inspected(kind)
    assert not [alarm for alarm in alarms(report) if alarm < "LD209"]
    assert not [finding for finding in report if finding.code.startswith("LD0")]
    assert [graph for graph in graphs if graph.step == "training_step"]
    assert any(graph.reaching for graph in graphs) or kind in UNKNOWN
