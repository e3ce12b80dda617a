"""Programs whose metrics are right."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MaxMetric, MeanMetric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy, MulticlassF1Score

from tests.helpers import pl


def loaders(validation=192, batch=64, classes=4):
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, classes, (256 + validation,), generator=generator)
    centers = torch.randn(classes, 6, generator=generator)
    inputs = centers[labels] + 0.6 * torch.randn(len(labels), 6, generator=generator)
    train = TensorDataset(inputs[:256], labels[:256])
    val = TensorDataset(inputs[256:], labels[256:])
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=batch)


class Base(pl.LightningModule):
    classes = 4

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, self.classes))
        self.build()

    def build(self):
        pass

    def measure(self, stage, logits, labels):
        pass

    def training_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.log("train_loss", loss)
        self.measure("train", logits, batch[1])
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.measure("val", logits, batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def accuracy():
    return MulticlassAccuracy(num_classes=4, average="micro")


def hits(logits, labels):
    return (logits.argmax(dim=1) == labels).float().mean()


class LoggedObjects(Base):
    def build(self):
        self.metrics = nn.ModuleDict({"train_": accuracy(), "val_": accuracy()})

    def measure(self, stage, logits, labels):
        metric = self.metrics[f"{stage}_"]
        metric(logits, labels)
        self.log(f"{stage}_acc", metric, on_step=False, on_epoch=True)


class SharedForBatches(Base):
    """One object for both stages, of which only the values of batches are used."""

    def build(self):
        self.accuracy = accuracy()

    def measure(self, stage, logits, labels):
        self.log(f"{stage}_acc", self.accuracy(logits, labels))


class SharedForWholeEpochs(SharedForBatches):
    """One object for both stages, asked at the end of a training epoch for the value of what it is given."""

    def measure(self, stage, logits, labels):
        if stage == "train":
            self.outputs.append((logits.detach(), labels))
        else:
            super().measure(stage, logits, labels)

    def on_train_epoch_start(self):
        self.outputs = []

    def on_train_epoch_end(self):
        self.log("train_acc", self.accuracy(*(torch.cat(part) for part in zip(*self.outputs, strict=True))))


class Collections(Base):
    def build(self):
        both = MetricCollection({"acc": accuracy(), "f1": MulticlassF1Score(num_classes=4)})
        self.train_metrics, self.val_metrics = both.clone("train_"), both.clone("val_")
        self.best = MaxMetric()

    def measure(self, stage, logits, labels):
        metrics = self.train_metrics if stage == "train" else self.val_metrics
        metrics.update(logits, labels)
        if stage == "train":
            self.log_dict(metrics, on_step=False, on_epoch=True)

    def on_validation_epoch_end(self):
        values = self.val_metrics.compute()
        self.log_dict(values)
        self.best(values["val_acc"])
        self.log("val_acc_best", self.best.compute())
        self.val_metrics.reset()


class ResetLate(Base):
    """Reset where the next validation begins."""

    def build(self):
        self.val_acc, self.val_mean = accuracy(), MeanMetric()

    def on_validation_epoch_start(self):
        self.val_acc.reset()
        self.val_mean.reset()

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.val_acc.update(logits, labels)
            self.val_mean.update(F.cross_entropy(logits, labels))

    def on_validation_epoch_end(self):
        self.log("val_acc", self.val_acc.compute())
        self.log("val_mean", self.val_mean.compute())


class ListsEmptied(Base):
    def build(self):
        self.outputs, self.history = [], []

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.outputs.append((logits, labels))
            self.history.append(float(hits(logits, labels)))  # over all epochs, for a plot

    def on_validation_epoch_end(self):
        logits, labels = (torch.cat(part) for part in zip(*self.outputs, strict=True))
        self.log("val_acc", hits(logits, labels))
        self.log("batches_seen", float(len(self.history)))
        self.outputs.clear()


class Percent(Base):
    def measure(self, stage, logits, labels):
        self.log(f"{stage}_accuracy", 100.0 * hits(logits, labels))
        self.log(f"{stage}_top2_acc", (logits.topk(2).indices == labels[:, None]).any(1).float().mean())


class Macro(Base):
    def build(self):
        self.acc, self.f1 = MulticlassAccuracy(num_classes=4), MulticlassF1Score(num_classes=4)

    def measure(self, stage, logits, labels):
        self.log(f"{stage}_acc", self.acc(logits, labels))
        self.log(f"{stage}_f1", self.f1(logits, labels))


class Binary(Base):
    classes = 1

    def training_step(self, batch, batch_idx):
        logits, labels = self.net(batch[0]).squeeze(-1), (batch[1] > 1).float()
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        logits, labels = self.net(batch[0]).squeeze(-1), (batch[1] > 1).float()
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, labels))
        self.log("val_acc", self.share(logits, labels))

    def share(self, logits, labels):
        return ((logits > 0) == labels.bool()).float().mean()


class BinaryMetric(Binary):
    def build(self):
        self.acc = BinaryAccuracy()

    def share(self, logits, labels):
        return self.acc(logits, labels.long())


class SumOfMetrics(Base):
    """A sum holds nothing itself; its count of updates goes on when it is reset."""

    def build(self):
        first, second = MeanMetric(), MeanMetric()
        self.val_total = MeanMetric() + MeanMetric()
        self.val_parts = MetricCollection({"first": first, "total": first + second}, compute_groups=False)

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.val_total.update(hits(logits, labels))
            self.val_parts.update(hits(logits, labels))
            self.log_dict(self.val_parts, on_step=False, on_epoch=True)

    def on_validation_epoch_end(self):
        self.log("val_total", self.val_total.compute())
        self.val_total.reset()


class Assigned(Base):
    """Numbers and tensors that a step sets hold no past, whatever was in them."""

    def build(self):
        self.latest, self.counts = 0.0, torch.zeros(4)

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.latest, self.counts = float(hits(logits, labels)), torch.bincount(labels, minlength=4).float()

    def on_validation_epoch_end(self):
        self.log("val_acc_of_last_batch", self.latest)
        self.log("val_score", self.counts[0] / self.counts.sum())


class Thresholds(Binary):
    """At some thresholds all answers are the same, as by a mistake."""

    def validation_step(self, batch, batch_idx):
        logits, labels = self.net(batch[0]).squeeze(-1), (batch[1] > 1).float()
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, labels))
        self.log("val_acc", BinaryAccuracy()(logits.sigmoid(), labels.long()))  # asks whether they are probabilities
        for threshold in (0.01, 0.05, 0.3, 0.6, 0.7, 0.95):
            right = (logits.sigmoid() > threshold) == labels.bool()
            self.log(f"val_acc@{threshold}", right.float().mean())
        self.log("val_majority_acc", (labels == 0).float().mean())


class SingleRows(Base):
    """A batch of one sample is right or wrong: any other share agrees with some mistake."""

    def measure(self, stage, logits, labels):
        if stage == "val":
            for index in range(3):
                share = hits(logits[index : index + 1], labels[index : index + 1])
                self.log(f"val_acc_{index}", 1 - share)


class MaskedTokens(Base):
    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        logits, labels = self.net(batch[0]), batch[1].clone()
        labels[::3] = -100
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.log("val_acc", self.share(logits, labels))

    def share(self, logits, labels):
        keep = labels != -100
        return 100 * ((logits.argmax(1) == labels) & keep).sum() / keep.sum()


class CountedAtTheEnd(Base):
    def build(self):
        self.confusion = torch.zeros(4, 4)

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.confusion += torch.bincount(4 * labels + logits.argmax(1), minlength=16).view(4, 4)

    def on_validation_epoch_end(self):
        self.log("val_acc", self.confusion.diag().sum() / self.confusion.sum())
        self.confusion.zero_()


HEALTHY = [
    Assigned,
    Thresholds,
    SingleRows,
    MaskedTokens,
    CountedAtTheEnd,
    SumOfMetrics,
    LoggedObjects,
    SharedForBatches,
    SharedForWholeEpochs,
    Collections,
    ResetLate,
    ListsEmptied,
    Percent,
    Macro,
    Binary,
    BinaryMetric,
]
