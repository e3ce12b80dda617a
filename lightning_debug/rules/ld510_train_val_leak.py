"""Validation samples are in the training data.

What it sees: at least ``share`` of the samples of a validation loader (``said`` of texts, whose idioms and indents
    recur), and at least ``fewest``, equal a training sample in every value compared, or differ from one by next to
    nothing; or at least ``overlap`` of them (``overlap_said`` of texts) hold a stretch of a training sample, moved in
    time (windows of one series that were split at random). What chance would make of discrete values is left out:
    equal samples must be ``margin`` times as many as expected, or stand in the same order in both datasets (drawn
    twice with one seed), or be all of a validation set of ``whole`` or more, of at most half the size of a training set
    in which no sample comes twice.
Why it hurts: validation then measures memory: it looks better than the truth, early stopping and the choice of the
    epoch follow the training loss, and the model fails on new data.
How to fix: split first, then make windows, copies and augmented versions; split by person, document or day where
    samples belong together; give validation its own dataset or disjoint indices.
When to ignore: when the loader is meant to show the training error. Silent under ``overfit_batches``, where one of
    several validation loaders is the whole of the training data, on tiny discrete inputs, where each dataset is one
    item, such as one graph whose nodes are told apart by masks, and where validation asks for other targets of the
    same samples (ratings that were held out).
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

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_acc", (scores.argmax(1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs[:500], labels[:500]), batch_size=16, shuffle=True)
    val_loader = DataLoader(TensorDataset(inputs[400:], labels[400:]), batch_size=50)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader, val_loader)
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

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_acc", (scores.argmax(1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs[:500], labels[:500]), batch_size=16, shuffle=True)
    val_loader = DataLoader(TensorDataset(inputs[500:], labels[500:]), batch_size=50)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader, val_loader)

Example:
    >>> from lightning_debug.evidence.data_relations import SharedSamples
    >>> from lightning_debug.record import Record
    >>> found = SharedSamples(samples=200, training=500, shared=100, compared=8, places=((0, 400),), in_dataset=True)
    >>> [claim.subject for claim in train_val_leak(Record([found]))]
    ['validation DataLoader']

References:
    Kaufman, Rosset, Perlich and Stitelman (2012), Leakage in data mining: https://doi.org/10.1145/2382577.2382579
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_relations import SampleCopies, SharedSamples
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_layers import is_text


@rule("LD510", severity=ERROR, needs=SharedSamples)
def train_val_leak(
    record: Record,
    *,
    share: float = 0.02,
    said: float = 0.25,
    fewest: int = 5,
    overlap: float = 0.5,
    overlap_said: float = 0.9,
    margin: float = 10.0,
    whole: int = 100,
) -> Iterator[Claim | Skip]:
    """Claims one finding for each validation loader that shares samples with training."""
    tokens = is_text(record)
    for found in record.of(SharedSamples):
        if found.overfitting:
            yield Skip("a few batches are overfitted on purpose")
            continue
        text = tokens and not found.same_indices
        if found.other_targets:
            yield Skip("validation asks for other targets of the samples of training")
            continue
        enough = max(fewest, (said if text else share) * found.samples)
        if found.loaders > 1 and max(found.shared, found.same_indices) == found.samples:
            yield Skip(f"validation loader {found.loader} reads training data only, beside others that may not")
            continue
        told = _told(found, enough, overlap_said if text else overlap, margin)
        if told is None and found.shared == found.samples >= whole and _once_each(record, found):
            told = (
                (
                    f"All {found.samples} validation samples equal a training sample{_compared(found)}, and no two "
                    f"of the {found.training} training samples are equal."
                ),
                "Take validation samples out of the training data: split the rows once, at random.",
            )
        if told is None:
            if found.shared >= enough and found.chance:
                yield Skip("inputs are so few discrete values that chance makes equal samples")
            continue
        what, fix = told
        number = f" {found.loader}" if found.loaders > 1 else ""
        yield Claim(
            message=what,
            subject=f"validation DataLoader{number}",
            measured={
                "validation samples": found.samples,
                "training samples": found.training,
                "shared": found.shared,
                "nearly equal": found.near,
                "overlapping": found.overlapping,
                "same rows": found.same_indices,
                "expected": found.expected,
                "places (validation, training)": [list(pair) for pair in found.places],
            },
            fix=fix,
            at=found.at,
        )


def _compared(found: SharedSamples) -> str:
    """How far samples were compared; those of different lengths have no values in common."""
    return f" in all {found.compared} values compared" if found.compared else ""


def _once_each(record: Record, found: SharedSamples) -> bool:
    """Whether training holds each of its samples once, so that chance does not make equal ones, and is larger."""
    copies = record.last(SampleCopies)
    if copies is None or copies.copies or copies.streams or copies.samples < found.training:
        return False
    return 2 * found.samples <= found.training


def _told(found: SharedSamples, enough: float, overlap: float, margin: float) -> tuple[str, str] | None:
    """Message and fix; ``None`` where nothing is wrong."""
    certain = found.shared >= enough and found.same_indices >= enough
    if certain and found.same_dataset:
        return (
            (
                f"Training and validation read the same dataset: all {found.samples} validation samples are among the "
                f"{found.training} training samples."
            ),
            "Give validation data of its own: random_split, or a dataset of other files.",
        )
    if certain:
        return (
            (
                f"{found.same_indices} of {found.samples} validation samples are the same rows of the same dataset as "
                "training samples."
            ),
            "Make the indices of the two subsets disjoint: random_split does.",
        )
    if found.shared >= max(enough, margin * found.expected) and not found.chance and found.compared > 1:
        place = found.places[0] if found.places and found.in_dataset else None
        where = f" (validation row {place[0]} is training row {place[1]})" if place else ""
        return (
            (
                f"{found.shared} of {found.samples} validation samples ({found.shared / found.samples:.0%}) equal a "
                f"training sample in all {found.compared} values compared{where}."
            ),
            "Drop duplicates before splitting, and take validation samples out of the training data.",
        )
    if found.near >= max(enough, 10):
        return (
            (
                f"{found.near} of the first {min(found.samples, 256)} validation samples differ from a training sample "
                "by next to nothing: less than a tenth of what training samples differ from the nearest of their own."
            ),
            "Split before samples are copied or augmented, and by origin where samples belong together.",
        )
    if found.overlapping is not None and found.overlapping >= overlap and found.samples >= 16:
        return (
            (
                f"{found.overlapping:.0%} of the validation windows hold a stretch of a training window, moved: "
                "overlapping windows were split at random."
            ),
            "Split the series in time first, then cut windows from each part.",
        )
    return None
