"""Training, validation and the output layer do not have the same classes.

What it sees: the classes counted over a whole epoch of training and of validation, and the units of the scores
    that cross-entropy receives. One of three: validation holds classes that training never showed (`unseen`
    samples or more); validation never holds a class that it would hold by chance; or output units that no
    training label uses, where there are `each` labels a unit and so many of each class that is used that chance leaves
    out none as rare. Chance below `p`; at most `most` classes. Of more units
    than that, where labels are those of the first of them, a quarter at most, with `each` labels a class. Or the
    samples that the model calls one class bear another number in validation, always the same: for three classes.
Why it hurts: a class without training samples cannot be learned, one without validation samples is not
    measured, and a unit without labels mostly means that labels are off by one or that classes are missing.
How to fix: shuffle, or stratify, before splitting; map the labels to 0 to C-1; give the last layer as many
    units as there are classes.
When to ignore: when classes are held out or added later on purpose. Silent where the validation labels reach no
    cross-entropy, on class 0 left to padding (`ignore_index=0`), on vocabularies (of texts, labels 1 to C alone are
    judged), on epochs that were cut short, and on a loader that holds other classes only, beside one that holds those
    of training (out of distribution on purpose).
    Classes that the training step adds (a memory that is replayed), or that the model gets right, are not unseen.
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
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 4, (960,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)
    order = labels.argsort()  # split without shuffling: the last class is left for validation
    inputs, labels = inputs[order], labels[order]

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
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
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 4, (960,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)

    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.data import LabelCounts
    >>> from lightning_debug.evidence.data_values import ClassFit
    >>> from lightning_debug.record import Record
    >>> train = LabelCounts(stage="train", field="batch[1]", classes=(1, 2, 3), counts=(200, 210, 190), complete=True)
    >>> fit = ClassFit(stage="train", function="cross_entropy", line="train.py:9", units=4)
    >>> [claim.message for claim in label_set_mismatch(Record([train, fit]))]
    ['The labels of training run from 1 to 3 and the scores have 4 units: class 0 is never right.']
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from lightning_debug.evidence.data import FieldValues, LabelCounts
from lightning_debug.evidence.data_values import ClassFit
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_renumbered import renumbered


@rule("LD516", severity=WARNING, needs=LabelCounts, explains=("LD706", "LD707", "LD212", "LD511"))
def label_set_mismatch(
    record: Record, *, unseen: int = 5, each: int = 30, p: float = 1e-6, most: int = 256
) -> Iterator[Claim | Skip]:
    """Claims classes that training lacks, that validation lacks, and units without labels."""
    plain = [item for item in record.of(ClassFit) if item.plain]
    fits = {stage: [item for item in plain if item.stage == stage] for stage in ("train", "validate")}
    counted = record.of(LabelCounts)
    trains = [item for item in counted if item.stage == "train" and item.complete and 0 < len(item.classes) <= most]
    if not trains:
        yield Skip("no whole epoch of training labels was counted, or they have too many classes")
        return
    open_ended = {item.field for item in counted if item.stage == "train"} - {item.field for item in trains}
    vals = [item for item in counted if item.stage == "validate" and item.field not in open_ended]
    elsewhere = {one for item in counted if item.stage == "validate" for one in item.classes}
    yield from _units(record, trains, fits["train"], elsewhere, each=each, most=most, p=p)
    moved = renumbered(fits["validate"])
    if moved:
        yield _renumbered(moved, fits["validate"][-1])
        return
    for field in dict.fromkeys(item.field for item in vals):
        part = [item for item in vals if item.field == field]
        alike = [item for item in trains if item.field == field]
        shown = alike or trains  # a field of another name may hold the labels of any of those of training
        known = {one for item in shown for one in item.classes}
        part = [item for item in part if known.intersection(item.classes)] or part  # not loaders of other classes only
        if fits["validate"] and fits["validate"][-1].units > max(max(item.classes) for item in shown):
            yield from _sets(shown, part, unseen, p, _taught(plain), paired=len(shown) == 1)


def _renumbered(moved: dict[int, tuple[int, int, int]], fit: ClassFit) -> Claim:
    told = [
        f"of {called} samples that the model calls {one}, {count} are labelled {label}"
        for one, (label, count, called) in list(moved.items())[:2]
    ]
    return Claim(
        message=f"Validation numbers its classes otherwise than training: {', '.join(told)}, and so on for "
        f"{len(moved)} of {fit.units} classes.",
        subject="validation labels",
        measured={"called": {str(one): label for one, (label, _, _) in moved.items()}, "line": fit.line},
        fix="Number the classes once, in sorted order, and use that mapping for training and validation.",
        at=fit.at,
    )


def _taught(fits: list[ClassFit]) -> set[int]:
    """Classes that a loss has taught though no batch need hold them (a memory that is replayed), or that are known."""
    taught = {one for item in fits if item.stage == "train" for one, count in enumerate(item.true) if count}
    right = {
        one
        for item in fits
        for one, (count, hits) in enumerate(zip(item.true, item.hits, strict=False))
        if item.stage == "validate" and 2 * hits > count  # from an earlier fit
    }
    return taught | right


def _sets(
    trains: list[LabelCounts], vals: list[LabelCounts], unseen: int, p: float, taught: set[int], *, paired: bool
) -> Iterator[Claim]:
    """Classes that only one of training and validation shows, in one field."""
    known, seen = Counter[int](), Counter[int]()
    for counter, items in ((known, trains), (seen, vals)):
        for item in items:
            counter.update(dict(zip(item.classes, item.counts, strict=True)))
    total, size = sum(known.values()), sum(seen.values())
    strange = {one: count for one, count in seen.items() if one not in known and one not in taught}
    amount = sum(strange.values())
    if amount >= unseen and (size / (size + total)) ** amount < p:
        yield Claim(
            message=f"{amount} of {size} validation labels are of classes that training never shows: "
            f"{_listed(strange)}.",
            subject=vals[0].field,
            measured={"classes": sorted(strange), "samples": amount, "validation_samples": size},
            fix="Shuffle or stratify before splitting into training and validation, or correct the labels.",
            at=vals[-1].at,
        )
    elif paired and size and all(item.complete for item in vals):
        missing = [one for one, count in known.items() if one not in seen and (1 - count / total) ** size < p]
        if missing:
            expected = sum(known[one] for one in missing) / total * size
            yield Claim(
                message=f"None of {size} validation labels is of {_listed(missing)}, where {expected:.0f} are to be "
                "expected.",
                subject=vals[0].field,
                measured={"classes": missing, "expected": expected, "validation_samples": size},
                fix="Shuffle or stratify before splitting into training and validation.",
                at=vals[-1].at,
            )


def _units(
    record: Record,
    trains: list[LabelCounts],
    fits: list[ClassFit],
    elsewhere: set[int],
    *,
    each: int,
    most: int,
    p: float,
) -> Iterator[Claim]:
    """Output units that no label uses, in training or elsewhere."""
    if not fits:
        return
    fit, train = fits[-1], trains[0]
    tokens = [item for item in record.of(FieldValues) if item.role == "tokens"]
    if any(item.highest < fit.units for item in tokens):
        return  # units of a vocabulary
    classes = {one for item in trains for one in item.classes}
    targets = {one for item in fits for one, count in enumerate(item.true) if count}  # of pairs in a batch, say
    used = {*classes, *elsewhere, *targets, fit.ignored}
    unused = [one for one in range(fit.units) if one not in used]
    if not unused or max(classes) >= fit.units:
        return
    lowest, highest = min(classes), max(classes)
    off = lowest == 1 and unused == [0]
    known = sum(train.counts) >= each * fit.units
    if fit.units > most:  # of a copied head, not of a vocabulary: the first units are used, and often
        known = lowest == 0 and highest + 1 == len(classes) <= fit.units // 4 and min(train.counts) >= each
    drawn = math.exp(-min(count for item in trains for count in item.counts if count)) >= p
    if not known or ((tokens or drawn) and not off):  # a class as rare as the rarest may be left out by chance
        return
    tail = "class 0 is never right" if off else f"no label uses {_listed(unused)}"
    yield Claim(
        message=f"The labels of training run from {lowest} to {highest} and the scores have {fit.units} units: {tail}.",
        subject=train.field,
        measured={"units": fit.units, "classes": len(classes), "unused": unused},
        fix="Subtract 1 from the labels, and drop the spare unit."
        if off
        else "Give the last layer as many units as there are classes, and map the labels to 0 to C-1.",
        at=train.at,
    )


def _listed(classes: object) -> str:
    ordered = sorted(classes)  # type: ignore[call-overload]
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ("class " if len(ordered) == 1 else "classes ") + ", ".join(map(str, ordered[:5])) + more
