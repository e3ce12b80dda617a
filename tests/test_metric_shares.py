"""LD804 on hits that are divided by all samples: a fault where batches are averaged, and none where they are added up."""

import pytest

from lightning_debug import MetricAuditor
from tests.helpers import trainer
from tests.metric_programs import Base, loaders


class Shares(Base):
    """Hits of a batch as a share of all, in numbers or per cent."""

    factor = 1.0

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.note((logits.argmax(1) == labels).float().sum())

    def note(self, hits):
        self.log("val_acc", self.factor * hits / len(self.trainer.val_dataloaders.dataset))


class PerCent(Shares):
    factor = 100.0


class AddedUp(Shares):
    def note(self, hits):
        self.log("val_acc", hits / len(self.trainer.val_dataloaders.dataset), reduce_fx="sum")


class AtTheEnd(Shares):
    def on_validation_epoch_start(self):
        self.hits = 0

    def note(self, hits):
        self.hits += int(hits)

    def on_validation_epoch_end(self):
        self.log("val_acc", self.hits / len(self.trainer.val_dataloaders.dataset))


@pytest.mark.parametrize(("program", "told"), [(Shares, True), (PerCent, True), (AddedUp, False), (AtTheEnd, False)])
def test_hits_divided_by_all_samples(program, told):
    auditor = MetricAuditor()
    trainer(auditor, max_epochs=4).fit(program(), *loaders(validation=320))
    found = [item for item in auditor.report.findings if item.code == "LD804"]
    assert len(found) == told, found
    if told:
        assert "divided by all samples" in found[0].message
