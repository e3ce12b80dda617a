"""The loss is a sum over the batch, so it grows with the batch size.

What it sees: the loss of up to 16 samples of the first batch, computed in isolation (eval mode, same weights, same
    random numbers): once together, and in two parts, cut at two places. The parts' losses add up to that of the whole
    within ``tolerance``, and each part has at least ``share`` of it, so it is a sum and no mean. A term that all of
    them have alike, such as a penalty on weights, is left out. Where the step draws random numbers, as denoising
    does, the means over several draws are compared, if the loss is the value of one call that sums: they add up
    within ``drawn``, and are ``sigmas`` standard errors from what a mean would give.
Why it hurts: gradients grow with the batch size: another batch size is another learning rate, the smaller last batch
    of an epoch is a smaller step, clipping thresholds and weight decay weigh otherwise, and the loss cannot be compared
    with that of another run.
How to fix: average: ``reduction="mean"`` (the default), ``.mean()`` for ``.sum()``, or divide by the number of
    samples.
When to ignore: when the optimizer's settings were tuned with the sum and the batch size never changes. Silent on sums
    over time, pixels or classes that are averaged over the batch; on sums that are divided by any number before they
    are returned; on evidence lower bounds, which add up terms and draw random numbers; where one batch is the whole
    epoch; where a hook scales the gradients before the update.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))
            self.loss = nn.CrossEntropyLoss(reduction="sum")

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = self.loss(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", self.loss(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 5, (960,))
    inputs = torch.randn(5, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))
            self.loss = nn.CrossEntropyLoss()

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = self.loss(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", self.loss(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    labels = torch.randint(0, 5, (960,))
    inputs = torch.randn(5, 8)[labels] + 0.5 * torch.randn(960, 8)
    train = DataLoader(TensorDataset(inputs[:768], labels[:768]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[768:], labels[768:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.loss_checks import BatchScaling
    >>> from lightning_debug.record import Record
    >>> seen = BatchScaling(samples=16, whole=36.8, cuts=(8, 4), parts=((18.1, 18.7), (9.3, 27.5)),
    ...                     function="cross_entropy", line="train.py:12", reduction="sum")
    >>> [claim.message for claim in loss_summed_over_batch(Record([seen]))]
    ['16 samples have the loss 36.8, their halves 18.1 and 18.7: it is summed over the batch.']

References:
    Goyal et al., Accurate, large minibatch SGD (2017), section 3, on the normalisation of per-worker losses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, variance

from lightning_debug.evidence.loss_checks import BatchScaling
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD211", severity=WARNING, needs=BatchScaling, explains=("LD210", "LD305", "LD310", "LD601"))
def loss_summed_over_batch(
    record: Record, *, tolerance: float = 1e-3, share: float = 0.02, drawn: float = 0.2, sigmas: float = 4.0
) -> Iterator[Claim | Skip]:
    """Claims one finding if the loss of the whole is the sum of its parts' losses."""
    seen = record.last(BatchScaling)
    if seen is None or not seen.parts or seen.batches == 1:
        return
    term = _apart(seen, tolerance)
    adds_up = (_adds_up(seen.whole - term, one - term, two - term, tolerance, share) for one, two in seen.parts)
    exact = len(seen.parts) > 1 and all(adds_up)
    if not exact and not _adds_up_on_average(seen.drawn, drawn, sigmas):
        return
    if (seen.terms > 1 and seen.draws) or seen.function in ("div", "rdiv"):
        return
    if seen.rescaled:
        yield Skip("a hook scales the gradients after backward, as whoever divides a sum by a count of his own does")
        return
    whole, one, two = (seen.whole, *seen.parts[0]) if exact else (fmean(item) for item in zip(*seen.drawn, strict=True))
    halves = "halves" if seen.cuts[0] * 2 == seen.samples else f"first {seen.cuts[0]} and the rest"
    by_argument = seen.reduction == "sum"
    fix = 'Use reduction="mean" (the default).' if by_argument else "Use .mean(), or divide by the batch size."
    often = "" if exact else f" (means of {len(seen.drawn)} draws)"
    yield Claim(
        message=f"{seen.samples} samples have the loss {whole:.4g}, their {halves} {one:.4g} and {two:.4g}{often}: "
        "it is summed over the batch.",
        subject=seen.line or "training_step",
        measured={
            "samples": seen.samples,
            "whole": whole,
            "parts": [list(pair) for pair in seen.parts] if exact else [[one, two]],
        },
        fix=fix,
        at=seen.at,
    )


def _apart(seen: BatchScaling, tolerance: float) -> float:
    """What is added to the loss whatever the samples: a penalty on weights, which each part pays as well."""
    over = [one + two - seen.whole for one, two in seen.parts]
    alike = max(over) - min(over) <= tolerance * abs(seen.whole) / 2
    return min(over) if alike and 0 < min(over) <= abs(seen.whole) / 4 else 0.0


def _adds_up(whole: float, one: float, two: float, tolerance: float, share: float) -> bool:
    """Whether two parts of the same sign, neither of them negligible, make the whole."""
    if whole == 0 or one * two <= 0:
        return False
    return math.isclose(one + two, whole, rel_tol=tolerance) and min(abs(one), abs(two)) >= share * abs(whole)


def _adds_up_on_average(drawn: Sequence[tuple[float, ...]], tolerance: float, sigmas: float) -> bool:
    """Whether the whole is the sum of its halves in the mean, and clearly not half of that, as a mean is.

    >>> _adds_up_on_average([(10.0, 5.5, 4.8), (11.0, 4.9, 5.1), (9.0, 4.4, 5.0)], 0.2, 4.0)
    True
    >>> _adds_up_on_average([(5.0, 5.5, 4.8), (5.5, 4.9, 5.1), (4.8, 4.4, 5.0)], 0.2, 4.0)
    False
    """
    if len(drawn) < 2:
        return False
    wholes, sums = [item[0] for item in drawn], [item[1] + item[2] for item in drawn]
    whole, both = fmean(wholes), fmean(sums)
    error = math.sqrt((variance(wholes) + variance(sums) / 4) / len(drawn))
    return math.isclose(whole, both, rel_tol=tolerance) and abs(whole - both / 2) > sigmas * error
