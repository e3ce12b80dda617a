"""Batches hold one label only.

What it sees: over at least ``batches`` batches of four samples or more, two samples of a batch share a label so often
    that this is ``alike`` of the way from chance to a single label, or at least ``single`` of the batches hold one
    label only, while the epoch as a whole holds several.
Why it hurts: the gradient of a batch then says "answer this class", and the next one takes it back. Batch-norm's
    statistics are those of one class, which is neither what validation sees nor what a contrastive loss needs.
How to fix: shuffle before batching; in a batch sampler that groups samples, group by something else than the label,
    or draw each batch from several groups.
When to ignore: when each batch is one task by design (meta-learning). Silent on samplers that put a few classes into
    each batch, on class-incremental blocks of several classes, on regression, on labels of several classes at once,
    where one label makes up nearly all data, and where the loss is seen to compare with other fields (the label is a
    condition of what is generated).
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    places = [torch.where(labels == label)[0] for label in range(4)]
    batches = [part.tolist() for label in places for part in label.split(16)]
    order = torch.randperm(len(batches)).tolist()
    loader = DataLoader(TensorDataset(inputs, labels), batch_sampler=[batches[place] for place in order])
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.data_relations import SampleOrder
    >>> from lightning_debug.record import Record
    >>> order = SampleOrder(field="batch[1]", samples=400, batches=25, batch_size=16, classes=4, runs=25, within=1.0,
    ...                     overall=0.25, single=1.0, sampler="list")
    >>> [claim.measured["single"] for claim in single_label_batches(Record([order]))]
    [1.0]
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_relations import SampleOrder
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._loss import training_calls

_SYMPTOMS = ("LD307", "LD309", "LD701", "LD702", "LD712", "LD713")


@rule("LD504", severity=ERROR, needs=SampleOrder, explains=_SYMPTOMS)
def single_label_batches(
    record: Record, *, batches: int = 8, alike: float = 0.8, single: float = 0.9
) -> Iterator[Claim | Skip]:
    """Claims one finding if the labels of a batch are all alike."""
    for order in record.of(SampleOrder):
        if order.overfitting or order.rank_correlation is not None or order.classes < 2 or order.numbers > 1:
            continue
        if order.batches < batches or order.batch_size < 4:
            yield Skip(f"fewer than {batches} batches of four samples were seen")
            continue
        if order.overall > 0.9:
            yield Skip("one label makes up nearly all of the data")
            continue
        if order.field not in _targets(record, order.field):
            yield Skip(f"the loss compares with other fields: {order.field} may be a condition that the model is given")
            continue
        excess = (order.within - order.overall) / (1 - order.overall)
        if excess >= alike or (order.single >= single and excess >= 0.5):
            yield Claim(
                message=f"{order.single:.0%} of the training batches hold one label only: two samples of a batch share "
                f"{order.field} with probability {order.within:.2f}, where {order.classes} labels at random give "
                f"{order.overall:.2f}.",
                subject="training DataLoader",
                measured={
                    "single": order.single,
                    "within_batch": order.within,
                    "overall": order.overall,
                    "classes": order.classes,
                    "batches": order.batches,
                },
                fix="Shuffle samples before they are put into batches, or draw each batch from several labels.",
                at=order.at,
            )


def _targets(record: Record, field: str) -> set[str]:
    """Fields that the training loss compares with; ``field`` among them where that is not known of each call."""
    calls = [call for _, call in training_calls(record)]
    known = {call.target.field for call in calls if call.target is not None}
    return known if calls and all(call.target is not None and call.target.field for call in calls) else {field}
