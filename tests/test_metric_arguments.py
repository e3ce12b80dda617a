"""LD804 on metrics that are given labels first and predictions second, and its silence wherever that is no mistake."""

import pytest
import torch
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics import functional as functional_metrics
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryPrecision,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.regression import MeanSquaredError, R2Score

from lightning_debug import MetricAuditor
from tests.helpers import trainer
from tests.metric_programs import Base, loaders


def claims(model):
    auditor = MetricAuditor()
    trainer(auditor, max_epochs=3).fit(model, *loaders())
    assert not [item for item in auditor.report.findings if item.code.startswith("LD0")]
    return [item for item in auditor.report.findings if item.code == "LD804"]


class Measured(Base):
    """A class a row; ``metric`` is given what ``measured`` makes of scores and labels."""

    def __init__(self, metric, arguments):
        vars(self).update(metric_given=[metric], arguments=arguments)
        super().__init__()

    def build(self):
        (self.val_metric,) = self.metric_given

    def measure(self, stage, logits, labels):
        if stage == "val":
            value = self.val_metric(*self.arguments(self, logits, labels))
            if isinstance(value, dict):
                self.log_dict(value)
            else:
                self.log("val_measure", value)


def hard(model, logits, labels):
    return logits.argmax(1), labels


def swapped(model, logits, labels):
    return labels, logits.argmax(1)


def amounts(model, logits, labels):
    return labels.float(), logits[:, 0]


def collection():
    return MetricCollection([MulticlassPrecision(4), MulticlassRecall(4), MulticlassF1Score(4)])


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [
        (MulticlassPrecision(4), swapped),
        (MulticlassAccuracy(4), swapped),  # the mean over classes
        (collection(), swapped),
        (lambda *given: functional_metrics.precision(*given, "multiclass", num_classes=4, average="macro"), swapped),
    ],
    ids=["precision", "macro accuracy", "collection", "function"],
)
def test_labels_first_are_told(metric, arguments):
    (claim,) = claims(Measured(metric, arguments))
    assert "labels as predictions" in claim.message
    assert "test_metric_arguments.py:" in claim.fix
    assert claim.measured["logged"] != claim.measured["computed"]


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [
        (MulticlassPrecision(4), hard),
        (collection(), hard),
        (MulticlassAccuracy(4, average="micro"), swapped),  # the order changes nothing
        (MulticlassF1Score(4), swapped),
        (MeanSquaredError(), amounts),
        (MulticlassPrecision(4), lambda model, logits, labels: (logits.argmax(1), (-logits).argmin(1))),
        (MulticlassPrecision(4), lambda model, logits, labels: (labels, labels.roll(1))),
        (MulticlassPrecision(4), lambda model, logits, labels: (labels.roll(1), logits.argmax(1))),
    ],
    ids=["precision", "collection", "micro", "F1", "squares", "two predictions", "two labels", "a field of its own"],
)
def test_what_is_no_mistake_is_left_alone(metric, arguments):
    assert not claims(Measured(metric, arguments))


class Regression(Base):
    """Squares by hand, or by torch; another head."""

    def __init__(self, metric, arguments, loss):
        vars(self).update(metric_given=[metric], arguments=arguments, loss=loss)
        super().__init__()

    def build(self):
        (self.val_metric,) = self.metric_given

    def training_step(self, batch, batch_idx):
        return self.loss(self.net(batch[0])[:, 0], batch[1].float())

    def validation_step(self, batch, batch_idx):
        values, labels = self.net(batch[0])[:, 0], batch[1].float()
        self.log("val_loss", self.loss(values, labels))
        self.val_metric.update(*self.arguments(values, labels))

    def on_validation_epoch_end(self):
        self.log("val_r2", self.val_metric.compute())
        self.val_metric.reset()


@pytest.mark.parametrize("loss", [F.mse_loss, lambda values, labels: ((values - labels) ** 2).mean()])
@pytest.mark.parametrize(
    ("arguments", "found"),
    [(lambda values, labels: (labels, values), 1), (lambda values, labels: (values, labels), 0)],
    ids=["swapped", "right"],
)
def test_explained_variance(loss, arguments, found):
    assert len(claims(Regression(R2Score(), arguments, loss))) == found


class Detector(Base):
    """Two classes; metrics take what comes as it is."""

    def __init__(self, metric, arguments):
        vars(self).update(metric_given=[metric], arguments=arguments)
        super().__init__()

    def build(self):
        (self.val_metric,) = self.metric_given

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self.net(batch[0])[:, 0], (batch[1] > 1).float())

    def validation_step(self, batch, batch_idx):
        logits, labels = self.net(batch[0])[:, 0], (batch[1] > 1).float()
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, labels))
        self.log("val_measure", self.val_metric(*self.arguments(logits, labels)))


@pytest.mark.parametrize("metric", [BinaryPrecision, BinaryAUROC])
@pytest.mark.parametrize("exchanged", [True, False])
def test_two_classes(metric, exchanged):
    def arguments(logits, labels):
        decided = (logits > 0).long()
        return (labels, decided) if exchanged else (decided, labels.long())

    found = claims(Detector(metric(), arguments))
    told = [claim for claim in found if "labels as predictions" in claim.message]
    assert len(told) == exchanged


class Autoencoder(Base):
    """What is compared is the input; the distance does not ask for an order."""

    def build(self):
        self.decoder = torch.nn.Linear(4, 6)
        self.val_metric = MeanSquaredError()

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.decoder(self.net(batch[0])), batch[0])

    def validation_step(self, batch, batch_idx):
        made = self.decoder(self.net(batch[0]))
        self.log("val_loss", F.mse_loss(made, batch[0]))
        self.log("val_mse", self.val_metric(batch[0], made))


def test_distances_of_an_autoencoder_are_left_alone():
    assert not claims(Autoencoder())
