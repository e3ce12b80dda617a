"""A validation metric is the plain mean of batches that differ in size, or their sum.

What it sees: in the first validations, the values that each batch logs, adds to a list, a number, a tensor or a
    ``MeanMetric``, and the rows of each batch. The logged value is their plain mean, and the mean weighted by rows
    differs by more than the share ``shift`` of it, and by more than ``errors`` of its standard errors (from the
    spread of the batches): a last batch of half the size moves it less than other validation samples would. Or it is
    their sum, where each is a mean: of an accuracy (and the like) above 1 whose batches lie between 0 and 1, and of a
    loss where a batch's part is what a loss function with ``reduction="mean"`` has given.
Why it hurts: the few rows of a small last batch count as much as those of a full one: the value is noisy and biased,
    and depends on the batch size. It is not what a reader, or the next paper, computes on the same data. A sum
    grows with the number of batches, and cannot be held against the training loss.
How to fix: let ``self.log`` average in ``validation_step`` (it weights by batch size; give it ``batch_size=`` where
    the batch does not show it), or use a torchmetrics object (``MeanMetric`` with ``weight=``), or sum up hits
    and rows.
When to ignore: when each batch is one unit by design (a patient, a document, a user). Silent where batches are even
    or the difference is small, and on sums of what is no mean.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))
            self.accuracies = []

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.accuracies.append((logits.argmax(dim=1) == labels).float().mean())

        def on_validation_epoch_end(self):
            self.log("val_accuracy", torch.stack(self.accuracies).mean())
            self.accuracies.clear()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 5, (1026,))
    inputs = torch.randn(5, 8)[labels] + 0.5 * torch.randn(1026, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=128)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 5, (1026,))
    inputs = torch.randn(5, 8)[labels] + 0.5 * torch.randn(1026, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=128)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.metrics import BatchAverages, UnevenAverage
    >>> from lightning_debug.record import Record
    >>> uneven = UnevenAverage(key="val_accuracy", value=0.61, weighted=0.74, source="self.accuracies")
    >>> seen = BatchAverages(batches=3, largest=128, smallest=2, uneven=(uneven,))
    >>> [claim.message for claim in metric_averaged_over_uneven_batches(Record([seen]))]
    ["'val_accuracy' is 0.61, the plain mean of 3 batches of 2 to 128 rows; by rows it is 0.74."]

References:
    https://lightning.ai/docs/pytorch/stable/extensions/logging.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from lightning_debug.evidence.loss import LossGraph
from lightning_debug.evidence.metrics import BatchAverages, UnevenAverage
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule

_SHARE = re.compile(r"acc|f1|auc|auroc|iou|dice|jaccard|precision|recall|top_?\d", re.I)
_SUM = re.compile(r"sum|total|count|hits|correct|num|cumul", re.I)


@rule("LD803", severity=WARNING, needs=BatchAverages)
def metric_averaged_over_uneven_batches(record: Record, *, shift: float = 0.01, errors: float = 1.0) -> Iterator[Claim]:
    """Claims one finding for each value that uneven batches move beyond its noise, or that is a sum of means."""
    for seen in record.of(BatchAverages):
        for uneven in seen.uneven:
            if uneven.summed:
                if _is_sum_of_means(record, uneven):
                    yield _sum(seen, uneven)
                continue
            if abs(uneven.value - uneven.weighted) <= max(shift * abs(uneven.weighted), errors * uneven.error):
                continue
            how = f"collected in {uneven.source}" if uneven.source else "averaged by self.log"
            fix = (
                "Log each batch's value with self.log in validation_step, which weights it by the batch's rows "
                "(or give a MeanMetric weight=)."
                if uneven.source
                else f"Give self.log({uneven.key!r}, ..., batch_size=...) the number of rows: len of the labels."
            )
            yield Claim(
                message=f"{uneven.key!r} is {uneven.value:.4g}, the plain mean of {seen.batches} batches of "
                f"{seen.smallest} to {seen.largest} rows; by rows it is {uneven.weighted:.4g}.",
                subject=f"{uneven.key!r}, {how}",
                measured={"value": uneven.value, "weighted": uneven.weighted, "batches": seen.batches},
                fix=fix,
                at=seen.at,
            )


def _is_sum_of_means(record: Record, uneven: UnevenAverage) -> bool:
    if _SUM.search(uneven.key) or len(uneven.parts) < 2:
        return False
    if _SHARE.search(uneven.key):
        shares = all(0.0 <= part <= 1.0 for part in uneven.parts)
        return shares and uneven.value > 1.0 and any(part != round(part) for part in uneven.parts)
    means = [
        call.value
        for graph in record.of(LossGraph)
        if graph.step == "validation_step"
        for call in graph.calls
        if call.reduction == "mean" and call.value
    ]
    return any(math.isclose(part, mean, rel_tol=1e-5) for part in uneven.parts for mean in means)


def _sum(seen: BatchAverages, uneven: UnevenAverage) -> Claim:
    how = f"added up in {uneven.source}" if uneven.source else "added up by self.log"
    return Claim(
        message=f"{uneven.key!r} is {uneven.value:.4g}, the sum of the means of {seen.batches} batches; their mean by "
        f"rows is {uneven.weighted:.4g}.",
        subject=f"{uneven.key!r}, {how}",
        measured={"value": uneven.value, "weighted": uneven.weighted, "batches": seen.batches},
        fix="Log each batch's value with self.log in validation_step, which averages it by rows.",
        at=seen.at,
    )
