"""The area under a ROC curve is that of scores; a collection of metrics is one object."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC, MulticlassF1Score

from lightning_debug import MetricAuditor
from lightning_debug.probes.metric_ranking import RANKED, ranking
from lightning_debug.probes.metric_values import Answers
from tests.helpers import trainer
from tests.metric_programs import Base, Binary, accuracy, loaders


def found(model):
    auditor = MetricAuditor()
    trainer(auditor, max_epochs=3).fit(model, *loaders(192))
    return [(item.code, item.subject, item.measured.get("mistake", "")) for item in auditor.report.findings]


class AreaOfObject(Binary):
    """Logged as an object of torchmetrics."""

    def __init__(self, ranked):
        super().__init__()
        self.ranked, self.val_auroc = ranked, BinaryAUROC()

    def share(self, logits, labels):
        self.val_auroc.update(self.ranked(logits), labels.long())
        self.log("val_auroc", self.val_auroc)
        return super().share(logits, labels)


class AreaAtTheEnd(Binary):
    """Of what lists have kept, by scikit-learn."""

    def __init__(self, ranked):
        super().__init__()
        self.ranked, self.kept = ranked, []

    def share(self, logits, labels):
        self.kept.append((labels, self.ranked(logits)))
        return super().share(logits, labels)

    def on_validation_epoch_end(self):
        labels, scores = (torch.cat(part).numpy() for part in zip(*self.kept, strict=True))
        self.kept.clear()
        self.log("roc_auc", float(roc_auc_score(labels, scores)))


@pytest.mark.parametrize("kind", [AreaOfObject, AreaAtTheEnd])
@pytest.mark.parametrize(
    ("ranked", "wrong"),
    [
        (torch.sigmoid, ""),
        (lambda logits: logits, ""),
        (lambda logits: (logits.sigmoid() > 0.5).float(), "decisions"),
        (lambda logits: logits.sigmoid().round(), "decisions"),
        (lambda logits: (logits > 0.5).float(), "decisions at a half"),
    ],
)
def test_decisions_are_not_ranked(kind, ranked, wrong):
    name = "val_auroc" if kind is AreaOfObject else "roc_auc"
    assert found(kind(ranked)) == ([("LD804", name, wrong)] if wrong else [])


@pytest.mark.parametrize(
    ("name", "judged"),
    [("val_auc", True), ("valAUROC", True), ("roc-auc/val", True), ("BinaryAUROC", True), ("sauce", False),
     ("val_auprc", False), ("caucus", False)],
)  # fmt: skip
def test_names_of_areas(name, judged):
    assert bool(RANKED.search(name)) is judged


def test_the_area_is_that_of_other_people():
    torch.manual_seed(0)
    labels = torch.randint(2, (200,))
    for scores in (torch.randn(200), torch.randint(3, (200,)).float()):
        right, _ = ranking(Answers("binary_cross_entropy_with_logits", scores, labels.float()))
        assert right["area"] == pytest.approx(roc_auc_score(labels, scores))
    both = torch.stack([-scores, scores], dim=1)
    assert ranking(Answers("cross_entropy", both, labels))[0] == right
    assert ranking(Answers("cross_entropy", torch.randn(200, 3), labels)) == ({}, {})
    assert ranking(Answers("binary_cross_entropy", scores, torch.ones(200))) == ({}, {})
    assert ranking(Answers("binary_cross_entropy", scores, torch.rand(200))) == ({}, {})
    assert ranking(Answers("binary_cross_entropy", torch.rand(8, 2), torch.rand(8, 2).round())) == ({}, {})


class SharedCollection(Base):
    """One collection for both stages, by hand."""

    def build(self):
        self.metrics = MetricCollection({"acc": accuracy(), "f1": MulticlassF1Score(num_classes=4)})

    def measure(self, stage, logits, labels):
        self.metrics.update(logits, labels)

    def on_validation_epoch_end(self):
        self.log_dict({f"val_{name}": value for name, value in self.metrics.compute().items()})
        self.metrics.reset()


class CollectionNotReset(SharedCollection):
    def measure(self, stage, logits, labels):
        if stage == "val":
            super().measure(stage, logits, labels)

    def on_validation_epoch_end(self):
        self.log_dict({f"val_{name}": value for name, value in self.metrics.compute().items()})


@pytest.mark.parametrize(("kind", "code"), [(SharedCollection, "LD802"), (CollectionNotReset, "LD801")])
def test_a_collection_is_told_once(kind, code):
    assert found(kind()) == [(code, "self.metrics", "")]
