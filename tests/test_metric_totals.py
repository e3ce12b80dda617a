"""Hand-kept totals and mean metrics that weigh batches by their rows are left alone."""

from lightning_debug import MetricAuditor
from tests.helpers import trainer
from tests.metric_programs import WeightedByRows, loaders


def test_means_weighted_by_rows_and_sums_that_are_meant_are_left_alone():
    auditor = MetricAuditor()
    trainer(auditor, max_epochs=1).fit(WeightedByRows(), *loaders(130))
    assert not auditor.report.findings
