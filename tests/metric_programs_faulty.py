"""Programs whose metrics are wrong, each by one fault."""

from collections import defaultdict

import torch
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassF1Score

from tests.metric_programs import Base, Binary, CountedAtTheEnd, MaskedTokens, accuracy, hits


class NeverEmptied(Base):
    def build(self):
        self.val_outputs = []

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.val_outputs.append({"logits": logits, "labels": labels})

    def on_validation_epoch_end(self):
        logits = torch.cat([item["logits"] for item in self.val_outputs])
        labels = torch.cat([item["labels"] for item in self.val_outputs])
        self.log("val_acc", hits(logits, labels))


class LikelihoodNeverEmptied(NeverEmptied):
    def on_validation_epoch_end(self):
        parts = [F.cross_entropy(item["logits"], item["labels"], reduction="sum") for item in self.val_outputs]
        self.log("heldout_nll_per_row", sum(parts) / sum(len(item["labels"]) for item in self.val_outputs))


class RanksNeverEmptied(NeverEmptied):
    def on_validation_epoch_end(self):
        places = [item["logits"].argsort(1, descending=True).argsort(1) for item in self.val_outputs]
        found = [place.gather(1, item["labels"][:, None]) for place, item in zip(places, self.val_outputs, strict=True)]
        self.log("val_mrr", (1 / (1 + torch.cat(found).float())).mean())


class NeverZeroed(Base):
    def build(self):
        self.correct = self.count = 0

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.correct += int((logits.argmax(1) == labels).sum())
            self.count += len(labels)

    def on_validation_epoch_end(self):
        self.log("val_acc", self.correct / self.count)


class NotReset(Base):
    def build(self):
        self.scores = {"f1": MulticlassF1Score(num_classes=4)}  # no submodule

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.scores["f1"].update(logits, labels)

    def on_validation_epoch_end(self):
        self.log("val_f1", self.scores["f1"].compute())


class SumNotReset(Base):
    def build(self):
        self.total = accuracy() + accuracy()

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.total.update(logits, labels)

    def on_validation_epoch_end(self):
        self.log("val_total", self.total.compute())


class TrainNotReset(Base):
    def build(self):
        self.train_acc = accuracy()

    def measure(self, stage, logits, labels):
        if stage == "train":
            self.train_acc.update(logits, labels)

    def on_train_epoch_end(self):
        self.log("train_acc", self.train_acc.compute())


class SharedByHand(Base):
    def build(self):
        self.acc = accuracy()

    def measure(self, stage, logits, labels):
        self.acc.update(logits, labels)

    def on_validation_epoch_end(self):
        self.log("val_acc", self.acc.compute())
        self.acc.reset()


class SharedIntoTraining(Base):
    """Validation's batches end up in the training epoch's value."""

    def build(self):
        self.acc = accuracy()

    def measure(self, stage, logits, labels):
        value = self.acc(logits, labels)
        if stage == "val":
            self.log("val_acc", value)
        else:
            self.log("train_acc", self.acc, on_step=False, on_epoch=True)


class MeanOfDicts(Base):
    def build(self):
        self.outputs = []

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.outputs.append({"loss": F.cross_entropy(logits, labels), "acc": hits(logits, labels)})

    def on_validation_epoch_end(self):
        self.log("avg_acc", torch.stack([item["acc"] for item in self.outputs]).mean())
        self.outputs.clear()


class WrongSize(Base):
    def measure(self, stage, logits, labels):
        if stage == "val":
            self.log("val_acc", hits(logits, labels), batch_size=1)


class Threshold(Binary):
    def share(self, logits, labels):
        return ((logits > 0.5).float() == labels).float().mean()


class Rounded(Binary):
    def share(self, logits, labels):
        return (logits.round() == labels).float().mean()


class Pairs(Binary):
    def share(self, logits, labels):
        return ((logits > 0).float().unsqueeze(1) == labels).float().mean()


class OneOutput(Binary):
    def share(self, logits, labels):
        return (logits.unsqueeze(1).argmax(dim=1) == labels).float().mean()


class AlwaysPositive(Binary):
    def share(self, logits, labels):
        return ((logits.sigmoid() > 0).float() == labels).float().mean()


class Counted(Base):
    def measure(self, stage, logits, labels):
        self.log(f"{stage}_acc", (logits.argmax(1) == labels).float().sum())


class ComputedInStep(Base):
    def build(self):
        self.val_acc = accuracy()

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.val_acc.update(logits, labels)
            self.log("val_acc", self.val_acc.compute())


class ListsInDict(Base):
    def build(self):
        self.outputs = {"best": [], "target": []}

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.outputs["best"].append(logits.argmax(1))
            self.outputs["target"].append(labels)

    def on_validation_epoch_end(self):
        best, target = (torch.cat(self.outputs[name]) for name in ("best", "target"))
        self.log("val_acc", (best == target).float().mean())


class BuffersNeverZeroed(Base):
    def build(self):
        self.register_buffer("correct", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.correct += (logits.argmax(1) == labels).sum()
            self.count += len(labels)

    def on_validation_epoch_end(self):
        self.log("val_acc", self.correct / self.count)


class ConfusionNeverZeroed(CountedAtTheEnd):
    def on_validation_epoch_end(self):
        self.log("val_acc", self.confusion.diag().sum() / self.confusion.sum())


class ThresholdAtTheEnd(Binary):
    def build(self):
        self.outputs = []

    def share(self, logits, labels):
        self.outputs.append(((logits > 0.5).numpy(), labels.numpy()))
        return 0.0

    def on_validation_epoch_end(self):
        rights = [answers == labels for answers, labels in self.outputs]
        self.log("val_accuracy", float(sum(map(sum, rights))) / sum(map(len, rights)))
        self.outputs.clear()


class OtherClass(Binary):
    def share(self, logits, labels):
        return 100 * ((1 - logits.sigmoid()).round() == labels).float().mean()


class MasksCounted(MaskedTokens):
    def share(self, logits, labels):
        return (logits.argmax(1) == labels).float().mean()


class MeanOfMeans(Base):
    """The last batch, of two rows, counts as much as the others."""

    def build(self):
        self.val_mean = MeanMetric()

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.val_mean(hits(logits, labels))
            self.log("val_acc", self.val_mean)


class AddedUp(Base):
    """Divided by the number of batches, or by nothing."""

    by_batches = True

    def on_validation_epoch_start(self):
        self.kept = {"accuracy": torch.zeros(())}
        self.batches = 0

    def measure(self, stage, logits, labels):
        if stage == "val":
            self.kept["accuracy"] += hits(logits, labels)
            self.batches += 1

    def on_validation_epoch_end(self):
        self.log("val_acc", self.kept["accuracy"] / (self.batches if self.by_batches else 1))


class NeverDivided(AddedUp):
    by_batches = False


class AddedFromNothing(AddedUp):
    def on_validation_epoch_start(self):
        self.kept, self.batches = defaultdict(float), 0


FAULTY = [
    (AddedFromNothing, "LD803", {"validation": 130, "epochs": 1}),
    (MeanOfMeans, "LD803", {"validation": 130, "epochs": 1}),
    (AddedUp, "LD803", {"validation": 130, "epochs": 1}),
    (NeverDivided, "LD803", {"validation": 640, "epochs": 1}),
    (ComputedInStep, "LD801", {}),
    (ListsInDict, "LD801", {}),
    (BuffersNeverZeroed, "LD801", {}),
    (ConfusionNeverZeroed, "LD801", {}),
    (ThresholdAtTheEnd, "LD804", {}),
    (OtherClass, "LD804", {}),
    (MasksCounted, "LD804", {}),
    (NeverEmptied, "LD801", {}),
    (RanksNeverEmptied, "LD801", {}),
    (LikelihoodNeverEmptied, "LD801", {}),
    (NeverZeroed, "LD801", {}),
    (NotReset, "LD801", {}),
    (TrainNotReset, "LD801", {}),
    (SumNotReset, "LD801", {}),
    (SharedByHand, "LD802", {}),
    (SharedIntoTraining, "LD802", {}),
    (MeanOfDicts, "LD803", {"validation": 130}),
    (WrongSize, "LD803", {"validation": 130}),
    (Threshold, "LD804", {}),
    (Rounded, "LD804", {}),
    (Pairs, "LD804", {}),
    (OneOutput, "LD804", {}),
    (AlwaysPositive, "LD804", {}),
    (Counted, "LD804", {}),
]
