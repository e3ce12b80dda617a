"""What LossInspector must find: each fault in several spellings, and as the only headline."""

import pytest

from tests.losses import faults_of_dimension, faults_of_range, faults_of_shape, faults_of_sigmoid, faults_of_softmax
from tests.losses.base import FAULTS, QUICK, inspected

MODULES = (faults_of_softmax, faults_of_dimension, faults_of_sigmoid, faults_of_shape, faults_of_range)


def test_every_fault_comes_in_three_forms_at_least():
    counts = {code: sum(fault.code == code for fault in FAULTS) for code in {fault.code for fault in FAULTS}}
    assert sorted(counts) == [f"LD20{digit}" for digit in range(1, 9)]
    assert min(counts.values()) >= 3
    assert {fault.kind.__module__ for fault in FAULTS} == {module.__name__ for module in MODULES}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.code}-{fault.kind.__name__}")
def test_fault_is_the_headline(fault, monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    report, _ = inspected(fault.kind)
    headlines = [finding for finding in report.headlines if "LD200" < finding.code < "LD209"]
    assert {finding.code for finding in headlines} == {fault.code}, [
        (finding.code, finding.subject, finding.message) for finding in report
    ]
    first = headlines[0]
    assert f"{fault.kind.__module__.rpartition('.')[2]}.py:" in first.subject
    assert fault.subject in first.subject
    assert first.fix
    assert "None" not in first.message + first.fix
