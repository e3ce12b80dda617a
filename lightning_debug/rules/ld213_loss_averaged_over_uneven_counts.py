"""A mean over tokens or pixels is averaged again over micro-batches that hold very different numbers of them.

What it sees: with gradient accumulation, over at least ``windows`` whole accumulation windows, over how many targets
    each micro-batch's loss is a mean (those that are not ``ignore_index``, or that a mask keeps), and its value. The
    counts differ so much that either the targets, weighed as they are, are worth less than ``effective`` of their
    number (harmonic over arithmetic mean of the counts, median over windows), or the average of the losses lies more
    than ``shift`` and two standard errors from the mean over all targets of the window.
Why it hurts: each micro-batch gets the same weight, however few tokens it holds, so a token in a short text counts many
    times as much as one in a long text. Training with accumulation is then another training than with one large batch.
How to fix: sum the loss in each micro-batch (``reduction="sum"``) and divide by the number of targets in the whole
    window (times the number of micro-batches, since Lightning divides by it); or batch texts of similar length.
When to ignore: when every micro-batch shall count alike. Silent without accumulation, on equal counts, on losses with
    one target a sample, and on sums that are divided by a total.
Broken:
    class Tagger(LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 16)
            self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            tokens, tags = batch
            logits = self.head(self.embedding(tokens))
            loss = F.cross_entropy(logits.transpose(1, 2), tags, ignore_index=-100)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    tokens = torch.randint(0, 20, (384, 40))
    lengths = torch.where(torch.rand(384) < 0.5, 2, 40)
    padding = torch.arange(40) >= lengths[:, None]
    tags = (tokens % 4).masked_fill(padding, -100)
    loader = DataLoader(TensorDataset(tokens, tags), batch_size=1, shuffle=True)
    trainer = Trainer(max_epochs=2, accumulate_grad_batches=8)
    trainer.fit(Tagger(), loader)
Repaired:
    class Tagger(LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 16)
            self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            tokens, tags = batch
            logits = self.head(self.embedding(tokens))
            loss = F.cross_entropy(logits.transpose(1, 2), tags, ignore_index=-100)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    tokens = torch.randint(0, 20, (384, 40))
    lengths = torch.where(torch.rand(384) < 0.5, 2, 40)
    padding = torch.arange(40) >= lengths[:, None]
    tags = (tokens % 4).masked_fill(padding, -100)
    loader = DataLoader(TensorDataset(tokens, tags), batch_size=8, shuffle=True)
    trainer = Trainer(max_epochs=2)
    trainer.fit(Tagger(), loader)

Example:
    >>> from lightning_debug.evidence.loss_checks import UnevenCounts
    >>> from lightning_debug.record import Record
    >>> window = UnevenCounts(accumulate=4, counts=(4, 40, 4, 32), losses=(1.0, 2.0, 0.9, 2.1), samples=(1, 1, 1, 1),
    ...                       masked=True, function="cross_entropy", line="train.py:14")
    >>> for claim in loss_averaged_over_uneven_counts(Record([window] * 4)):
    ...     print(claim.message)
    Each of 4 micro-batches gets the same weight, though they average over 4 to 40 targets: the loss is 1.5 where the
    mean over all targets is 1.94.

References:
    Unsloth and Hugging Face on the gradient accumulation bug (October 2024): https://huggingface.co/blog/gradient_accumulation
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from lightning_debug.evidence.loss_checks import UnevenCounts
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD213", severity=WARNING, needs=UnevenCounts)
def loss_averaged_over_uneven_counts(
    record: Record, *, windows: int = 3, effective: float = 0.5, shift: float = 0.05
) -> Iterator[Claim | Skip]:
    """Claims one finding if equal weights distort the mean over all targets."""
    seen = [window for window in record.of(UnevenCounts) if _is_over_targets(window)]
    if len(seen) < windows:
        if len(record.of(UnevenCounts)) < windows:
            yield Skip(f"fewer than {windows} accumulation windows were seen")
        return
    worth = statistics.median(statistics.harmonic_mean(one.counts) / statistics.fmean(one.counts) for one in seen)
    shifts = [_shift(one) for one in seen]
    error = statistics.stdev(shifts) / math.sqrt(len(shifts)) if len(shifts) > 1 else math.inf
    mean = statistics.fmean(shifts)
    if worth >= effective and not (abs(mean) > shift and abs(mean) > 2 * error):
        return
    first = max(seen, key=lambda one: abs(_shift(one)))
    low, high = min(first.counts), max(first.counts)
    yield Claim(
        message=f"Each of {first.accumulate} micro-batches gets the same weight, though they average over {low:.0f} to "
        f"{high:.0f} targets: the loss is {statistics.fmean(first.losses):.3g} where the mean over all targets is "
        f"{_weighted(first):.3g}.",
        subject=first.line or "training_step",
        measured={
            "windows": len(seen),
            "effective": worth,
            "shift": mean,
            "standard_error": error if math.isfinite(error) else None,
            "counts": list(first.counts),
        },
        fix='Use reduction="sum" and divide by the number of targets in the whole accumulation window.',
        at=first.at,
    )


def _is_over_targets(window: UnevenCounts) -> bool:
    """Whether the counts are known, and are not simply the numbers of samples."""
    if not window.counts or min(window.counts) <= 0 or not all(math.isfinite(loss) for loss in window.losses):
        return False
    if any(abs(count - round(count)) > 1e-3 for count in window.counts):
        return False  # divided by a weight, not by a number of targets
    if None in window.samples:
        return window.masked
    return any(count != samples for count, samples in zip(window.counts, window.samples, strict=True))


def _weighted(window: UnevenCounts) -> float:
    """The mean over all targets of the window."""
    total = sum(count * loss for count, loss in zip(window.counts, window.losses, strict=True))
    return total / sum(window.counts)


def _shift(window: UnevenCounts) -> float:
    """How far equal weights move the loss, as a share of it."""
    weighted = _weighted(window)
    return (statistics.fmean(window.losses) - weighted) / abs(weighted) if weighted else 0.0
