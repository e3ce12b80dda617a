"""Hand-kept totals and mean metrics that weigh batches by their rows are left alone."""

import pytest
from torch.nn import functional as F
from torchmetrics import MeanMetric

from lightning_debug import MetricAuditor
from tests.helpers import trainer
from tests.metric_programs import Base, accuracy, hits, loaders


class WeightedByRows(Base):
    """A mean metric with weights, hits and rows by hand, and a sum that says it is one."""

    def build(self):
        self.val_mean = MeanMetric()

    def on_validation_epoch_start(self):
        self.right = self.rows = self.total = 0.0

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.val_mean.update(hits(logits, labels), weight=len(labels))
            self.right += float((logits.argmax(1) == labels).sum())
            self.rows += len(labels)
            self.total += float(F.cross_entropy(logits, labels, reduction="sum"))

    def on_validation_epoch_end(self):
        self.log_dict(
            {"val_acc": self.val_mean.compute(), "val_hits": self.right, "val_hit_rate": self.right / self.rows}
        )
        self.log("val_nll", self.total)
        self.val_mean.reset()


def test_means_weighted_by_rows_and_sums_that_are_meant_are_left_alone():
    auditor = MetricAuditor()
    trainer(auditor, max_epochs=1).fit(WeightedByRows(), *loaders(130))
    assert not auditor.report.findings


class SoFar(Base):
    """A value over all epochs, as the name that it is logged under says."""

    word = "running"

    def build(self):
        self.right, self.val_acc = accuracy(), accuracy()

    def measure(self, stage, logits, labels):
        metric = self.right if stage == "train" else self.val_acc
        metric.update(logits, labels)
        if stage == "train":
            self.log(f"{self.word}_acc", metric.compute())

    def on_train_epoch_end(self):
        self.log_dict({f"acc_{self.word}": self.right.compute()})

    def on_validation_epoch_end(self):
        self.log("val_acc", self.val_acc.compute())
        self.val_acc.reset()


@pytest.mark.parametrize(("word", "said"), [("running", 0), ("so_far", 0), ("train", 1)])
def test_a_value_whose_name_says_that_earlier_epochs_are_meant(word, said):
    model, auditor = SoFar(), MetricAuditor()
    model.word = word
    trainer(auditor, max_epochs=3).fit(model, *loaders(130))
    assert [item.code for item in auditor.report.findings] == ["LD801"] * said
