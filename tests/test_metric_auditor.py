"""MetricAuditor under a real Trainer: quiet on metrics that are right, and each fault by its rule."""

import re

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score, MulticlassAccuracy, MulticlassF1Score

from lightning_debug import MetricAuditor
from lightning_debug.probes.metric_values import Answers, mistaken_answers, right_answers
from tests.helpers import trainer
from tests.metric_programs import HEALTHY, Base, Binary, loaders
from tests.metric_programs_faulty import FAULTY, MeanOfDicts, MeanOfMeans, NeverEmptied


def audited(model, *, epochs=3, validation=192, **options):
    auditor = MetricAuditor()
    trainer(auditor, max_epochs=epochs, **options).fit(model, *loaders(validation))
    found = auditor.report.findings
    assert not [item for item in found if item.code.startswith("LD0")], found
    return auditor.report


@pytest.mark.parametrize("kind", HEALTHY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("sanity", [0, 2])
def test_right_metrics_are_left_alone(kind, sanity):
    assert not audited(kind(), num_sanity_val_steps=sanity).findings


@pytest.mark.parametrize("kind", HEALTHY, ids=lambda kind: kind.__name__)
def test_right_metrics_are_left_alone_where_validation_comes_twice_an_epoch(kind):
    assert not audited(kind(), val_check_interval=0.5, epochs=2).findings


@pytest.mark.parametrize(("kind", "code", "options"), FAULTY, ids=lambda item: getattr(item, "__name__", ""))
def test_faults_are_found(kind, code, options):
    report = audited(kind(), **options)
    assert [item.code for item in report.findings] == [code], report.findings


@pytest.mark.parametrize("kind", [MeanOfMeans, MeanOfDicts], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("validation", [175, 222])
def test_a_last_batch_that_moves_a_mean_less_than_its_noise_is_left_alone(kind, validation):
    assert not audited(kind(), validation=validation).findings


class Collected(Binary):
    """A collection names its metrics by their classes, without an underline: ``val_BinaryAccuracy``."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers
        self.val_metrics = MetricCollection([BinaryAccuracy(), BinaryF1Score()], prefix="val_")

    def share(self, logits, labels):
        self.val_metrics.update(self.answers(logits), labels.int())
        self.log_dict(self.val_metrics, on_step=False, on_epoch=True)

    def validation_step(self, batch, batch_idx):
        logits, labels = self.net(batch[0]), (batch[1][:, None] > 1).float()
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, labels))
        self.share(logits, labels)


@pytest.mark.parametrize(
    ("answers", "codes"),
    [
        (lambda logits: (logits.sigmoid() > 0.5).int(), []),
        (lambda logits: logits, []),
        (lambda logits: logits.sigmoid().argmax(1, keepdim=True).int(), ["LD804"]),
        (lambda logits: (logits > 0.5).int(), ["LD804"]),
    ],
    ids=["threshold", "logits", "argmax over one output", "0.5 on logits"],
)
def test_accuracy_of_a_collection(answers, codes):
    assert [item.code for item in audited(Collected(answers)).findings] == codes


class Shy(Binary):
    """Logits so small that to round them is to compare them with 0.5."""

    def validation_step(self, batch, batch_idx):
        logits, labels = 0.02 * self.net(batch[0]), (batch[1][:, None] > 1).float()
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, labels))
        self.log("val_acc", ((logits > 0.5).float() == labels).float().mean())


def test_a_comparison_that_gives_what_rounding_does_is_called_one():
    (found,) = audited(Shy()).findings
    assert "compared with 0.5" in found.message


class Balanced(Base):
    """The accuracy of a collection over several classes is the mean over classes."""

    def build(self):
        self.val_metrics = MetricCollection([MulticlassAccuracy(self.classes), MulticlassF1Score(self.classes)])

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.val_metrics.update(logits, labels)
            self.log_dict(self.val_metrics, on_step=False, on_epoch=True)


def test_balanced_accuracy_of_a_collection_is_left_alone():
    assert not audited(Balanced()).findings


class Bags(torch.utils.data.Dataset):
    """Bags of rows with one label each, handed on as they are."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(5 + index % 7, 6, generator=generator) + index % 2, float(index % 2)


class OfBags(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(6, 1)

    def loss(self, batch):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]).mean(0), torch.tensor([batch[1]]))

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def test_bags_of_rows_count_once_each():
    auditor = MetricAuditor()
    bags = torch.utils.data.DataLoader(Bags(), batch_size=None)
    trainer(auditor, max_epochs=2).fit(OfBags(), bags, bags)
    assert not auditor.report.findings


def test_the_epoch_alone_is_told():
    (finding,) = audited(NeverEmptied()).findings
    assert finding.subject == "self.val_outputs"
    assert "for the epoch alone" in finding.message


class TotalNeverZeroed(Base):
    """What the share is divided by goes on as well, and so does a sum that may be meant to."""

    def build(self):
        self.correct, self.total, self.running = 0, 0, 0.0

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.correct += int((logits.argmax(1) == labels).sum())
            self.total += len(labels)
            self.running += float(F.cross_entropy(logits, labels, reduction="sum"))

    def on_validation_epoch_end(self):
        self.log("val_err_percent", 100 - 100 * self.correct / self.total)
        self.log("val_loss_of_rows", self.running / self.total)


def test_all_that_goes_on_counts_in_the_figure():
    (finding,) = audited(TotalNeverZeroed(), num_sanity_val_steps=0, epochs=2).findings
    told = float(re.search(r"([\d.]+) for the epoch alone", finding.message)[1])
    assert finding.code == "LD801"
    assert told < 75, "errors of the second epoch, not what one epoch gets right of two epochs' rows"
    assert "self.total = 0" in finding.fix


def test_one_small_batch_among_many_moves_little():
    assert not audited(MeanOfDicts(), validation=64 * 12 + 60).findings


def test_a_fault_does_not_show_in_a_single_epoch_of_no_past():
    assert not audited(NeverEmptied(), epochs=1, num_sanity_val_steps=0).findings


@pytest.mark.parametrize("function", ["cross_entropy", "nll_loss"])
def test_accuracy_over_positions_ignores_what_the_loss_ignores(function):
    scores, target = torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long)
    scores[:, 1] = 1.0
    target[0, :2], target[1] = 1, -100
    assert right_answers(Answers(function, scores, target))["accuracy"] == 0.5
    assert mistaken_answers(Answers(function, scores, target)) == {"ignored counted": 0.25}


def test_soft_targets_have_no_accuracy():
    soft = Answers("binary_cross_entropy_with_logits", torch.zeros(4), torch.full((4,), 0.3))
    assert not right_answers(soft)
    assert not mistaken_answers(soft)
    assert not right_answers(Answers("cross_entropy", torch.zeros(4, 3), torch.full((4, 3), 1 / 3)))


def test_argmax_over_the_batch_is_told_apart():
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    target = scores.argmax(0)
    assert mistaken_answers(Answers("cross_entropy", scores, target))["argmax over dim=0"] == 1.0
