"""The training loader does not shuffle, and the data are ordered by label.

What it sees: the loader draws samples one after the other, and the labels of the first epoch came in blocks: at most
    ``runs`` times the stretches of equal labels that a random order gives, by more than ``deviation`` standard
    deviations, so that labels of one batch are alike (``alike`` of the way from chance to a single label). For
    amounts, their rank correlation with the place in the order is at least ``correlation``. Of labels that are
    several numbers each, the set of classes or the one column counts that comes in blocks most.
Why it hurts: each batch shows the net a few classes only: gradients of neighbouring batches agree with each other,
    and not with the task. The net learns the last block and forgets the first, batch-norm follows one class at a
    time, and the loss swings through every epoch.
How to fix: pass ``shuffle=True`` to the training ``DataLoader`` (the validation loader needs none).
When to ignore: when the order is the task, as in curriculum or continual learning. Silent where the order carries no
    labels (data that lie shuffled on disk, windows of a series), with a sampler of another kind, on streams, and
    under ``overfit_batches``.
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
    labels = torch.arange(4).repeat_interleave(100)
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16)
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
    labels = torch.arange(4).repeat_interleave(100)
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.data_relations import SampleOrder
    >>> from lightning_debug.record import Record
    >>> order = SampleOrder(field="batch[1]", samples=400, batches=25, batch_size=16, classes=4, runs=4, shuffled=False,
    ...                     expected_runs=301.0, deviation=-34.0, within=0.97, overall=0.25,
    ...                     sampler="SequentialSampler")
    >>> [claim.subject for claim in train_not_shuffled(Record([order]))]
    ['training DataLoader']

References:
    Bengio (2012), Practical recommendations for gradient-based training of deep architectures:
    https://arxiv.org/abs/1206.5533
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_relations import SampleOrder
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule

_SYMPTOMS = (
    *("LD305", "LD307", "LD308", "LD309", "LD504", "LD505"),
    *("LD701", "LD702", "LD704", "LD712", "LD713"),
)
"""A net that sees one label for long forgets the others, and lurches where the next one begins."""


@rule("LD503", severity=ERROR, needs=SampleOrder, explains=_SYMPTOMS)
def train_not_shuffled(
    record: Record, *, runs: float = 0.5, deviation: float = 6.0, alike: float = 0.3, correlation: float = 0.9
) -> Iterator[Claim | Skip]:
    """Claims one finding if a sequential order carries the labels."""
    for order in record.of(SampleOrder):
        if order.overfitting:
            yield Skip("a few batches are overfitted on purpose")
            continue
        if order.streams:
            yield Skip("the data stream in without an index")
            continue
        if order.shuffled is None:
            yield Skip(f"whether {order.sampler} shuffles is not known")
            continue
        if order.shuffled or order.batches < 3:
            continue
        if order.rank_correlation is not None:
            if abs(order.rank_correlation) >= correlation and not order.series and order.samples >= 64:
                yield _claim(
                    order,
                    f"the rank correlation of {order.field} with its place in the epoch is "
                    f"{order.rank_correlation:.2f}, and shuffling gives about 0",
                    {"rank_correlation": order.rank_correlation},
                )
            continue
        excess = (order.within - order.overall) / (1 - order.overall) if order.overall < 1 else 0.0
        blocks = order.runs <= runs * order.expected_runs and order.deviation <= -deviation
        if order.classes > 1 and blocks and excess >= alike:
            several = f" (of {order.field})" if order.numbers > 1 else ""
            yield _claim(
                order,
                f"{order.samples} labels{several} come in {order.runs} stretches of equal ones where shuffling gives "
                f"{order.expected_runs:.0f}, so two samples of a batch share a label with probability "
                f"{order.within:.2f} instead of {order.overall:.2f}",
                {
                    "runs": order.runs,
                    "expected_runs": order.expected_runs,
                    "deviation": order.deviation,
                    "within_batch": order.within,
                    "overall": order.overall,
                },
            )


def _claim(order: SampleOrder, what: str, measured: dict[str, float]) -> Claim:
    read = order.dataset if order.dataset not in ("", "list", "tuple") else f"its {order.dataset or 'dataset'}"
    return Claim(
        message=f"The training loader ({order.sampler}) follows the order of {read}, which "
        f"is ordered by label: {what}.",
        subject="training DataLoader",
        measured={"samples": order.samples, "batches": order.batches, "sampler": order.sampler, **measured},
        fix="Pass shuffle=True to the training DataLoader, in the place of any sampler.",
        at=order.at,
    )
