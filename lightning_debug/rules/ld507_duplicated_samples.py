"""The training data hold samples more than once.

What it sees: at least ``share`` of the training samples (``said`` of texts, whose idioms and indents recur), and at
    least ``fewest``, are exact copies of others in every value compared. What chance would make is left out: of
    discrete values that make equal samples by chance many more differ in a value or two, and copies must be
    ``margin`` times as many as the values' entropy lets expect. Or a dataset holds as many samples as it has indices,
    is asked for each of them once, and gives half of its samples at most. Or each worker that reads a stream
    delivers each of its samples once.
Why it hurts: copies count many times in the loss, an epoch is shorter than it looks, and a random split puts copies
    of training samples into validation.
How to fix: drop them before the split: ``numpy.unique(inputs, axis=0, return_index=True)``; look for a list that is
    filled twice, a ``ConcatDataset`` of overlapping parts, or a glob that finds each file under two names.
When to ignore: when samples are repeated on purpose. Copies that balance rare classes, and a few samples that are
    repeated whole to make a longer epoch (each equally often, at least ``repeats`` times), are told as a note, and
    so is a bootstrap sample: as many draws with replacement as there are samples leave 36.8 % of them once and 18.4
    % twice, within ``deviations`` standard deviations. Silent on samplers that draw with replacement or are of your
    own writing, unless the dataset itself is seen to hold the copies; on datasets that draw their samples
    themselves (a replay memory) or are filled while training goes on (a queue of games, loaders that are made
    anew), on other streams, on tiny discrete inputs, and where every input is there as often, thrice or more, and most
    labels differ (actions that were tried in it).
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
    twice = torch.cat([inputs, inputs[:150]]), torch.cat([labels, labels[:150]])
    loader = DataLoader(TensorDataset(*twice), batch_size=16, shuffle=True)
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
    >>> from lightning_debug.evidence.data_augmentation import AugmentationDraws
    >>> from lightning_debug.evidence.data_relations import SampleCopies
    >>> from lightning_debug.record import Record
    >>> found = SampleCopies(samples=1000, copies=100, largest=2, exact=64, compared=8, dataset="TensorDataset")
    >>> [claim.subject for claim in duplicated_samples(Record([found]))]
    ['training dataset']
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_debug.evidence.data_augmentation import AugmentationDraws
from lightning_debug.evidence.data_relations import SampleCopies
from lightning_debug.finding import INFO, WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._data_layers import by_chance, is_text


@rule("LD507", severity=WARNING, needs=SampleCopies)
def duplicated_samples(
    record: Record,
    *,
    share: float = 0.02,
    said: float = 0.1,
    fewest: int = 10,
    margin: float = 10.0,
    repeats: int = 5,
    deviations: float = 3.0,
) -> Iterator[Claim | Skip]:
    """Claims one finding if there are more copies than chance makes."""
    share = said if is_text(record) else share
    draws = record.last(AugmentationDraws)
    for found in record.of(SampleCopies):
        if 2 * found.withheld >= max(found.samples, 2 * fewest):
            yield _withheld(found)
            continue
        if found.streams:
            yield _of_stream(found, fewest, margin)
            continue
        if found.copies < max(fewest, share * found.samples):
            continue
        if found.grows:
            yield Skip("the dataset is filled while training goes on, and an agent comes to the same states again")
            continue
        if found.drawn_again:
            yield Skip(f"{found.sampler} may draw a sample more than once")
            continue
        if draws is not None and draws.varies and not found.in_dataset:
            yield Skip(f"{draws.dataset} draws its samples itself, another each time that it is asked for the same")
            continue
        if found.compared < 2 or found.near * 2 >= found.exact or margin * found.expected >= found.copies:
            yield Skip("inputs are so few discrete values that chance makes equal samples")
            continue
        if found.each_answered_anew:
            yield Skip("every input is there equally often, mostly with another label: no copies of samples")
            continue
        meant = _meant(found, repeats, deviations)
        first = found.places[0] if found.places else None
        where = f" ({'rows' if found.in_dataset else 'places in the epoch'} {first[0]} and {first[1]})" if first else ""
        yield Claim(
            message=f"{found.copies} of {found.samples} training samples ({found.copies / found.samples:.1%}) are "
            f"copies of others, equal in all {found.compared} values compared{where}, where chance makes "
            f"{by_chance(found.expected)}{meant}.",
            subject="training dataset",
            measured={
                "copies": found.copies,
                "samples": found.samples,
                "largest group": found.largest,
                "expected": found.expected,
                "places": [list(pair) for pair in found.places],
            },
            fix="Where that is meant, repeat them after the split into training and validation, not before."
            if meant
            else "Drop the copies before splitting: numpy.unique(inputs, axis=0, return_index=True) gives the rows "
            "to keep.",
            at=found.at,
            severity=INFO if meant else None,
        )


def _meant(found: SampleCopies, repeats: int, deviations: float) -> str:
    """What shows that the copies are there on purpose."""
    if found.largest >= repeats and (found.samples - found.copies) * found.largest == found.samples:
        return "; each is there equally often"
    if found.balancing:
        return "; they balance rare classes"
    if _is_bootstrap(found, deviations):
        return "; they are as many as draws with replacement make, once for each sample: a bootstrap sample"
    return ""


def _of_stream(found: SampleCopies, fewest: int, margin: float) -> Claim | Skip:
    if not found.readers or found.copies < fewest or margin * found.expected >= found.copies:
        return Skip("the data stream in without an index")
    different = found.samples - found.copies
    return Claim(
        message=f"Each of {found.readers} workers delivers the whole stream: {found.samples} samples of an epoch are "
        f"{different} different ones, {found.readers} times each.",
        subject="training DataLoader",
        measured={"samples": found.samples, "different": different, "workers": found.readers},
        fix=f"Share the stream out in {found.dataset}.__iter__: ask get_worker_info() for id and num_workers, and "
        "yield itertools.islice(items, id, None, num_workers) of items in an order that all workers share.",
        at=found.at,
    )


def _withheld(found: SampleCopies) -> Claim:
    given = found.samples - found.copies
    return Claim(
        message=f"{found.dataset} holds {found.samples} samples, is asked for each of its {found.samples} indices, and "
        f"gives {given} of them, {found.samples / given:.3g} times each on average.",
        subject="training dataset",
        measured={"copies": found.copies, "samples": found.samples, "never given": found.withheld},
        fix=f"Look at what {found.dataset}.__getitem__ does with its index: each must lead to a sample of its own.",
        at=found.at,
    )


def _is_bootstrap(found: SampleCopies, deviations: float) -> bool:
    """Whether samples are there as often as ``n`` draws from ``n`` make them: by a Poisson law of mean 1."""
    counts = found.samples - found.copies, found.once, found.twice
    shares = 1 - math.exp(-1), math.exp(-1), math.exp(-1) / 2
    spreads = 0.312, 0.482, 0.341  # of such counts, over the root of n
    return all(
        abs(count - share * found.samples) <= deviations * spread * math.sqrt(found.samples)
        for count, share, spread in zip(counts, shares, spreads, strict=True)
    )
