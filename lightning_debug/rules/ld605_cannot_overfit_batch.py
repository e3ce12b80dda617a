"""The network cannot fit two examples, at any learning rate tried.

What it sees: two examples of the first batch (or the whole batch, where it cannot be cut), trained on in isolation
    with dropout off, a fresh optimizer and learning rates from 0.0003 to 0.3. It is claimed where the loss stays
    above the least that any output could pay for these targets, by at least ``share`` of what an output pays that
    is the same for every example; where it no longer falls (by ``still`` of what is left, in a quarter of the
    steps); and where a check of the debugging plan fails: the gradient ends or is zero on its way back, the input
    is all zeros or all alike, the output does not depend on the input, or the targets lie outside what the output
    can give. If no check fails it is claimed only above ``share_unexplained``, and where the whole batch cannot be
    learned either; it then says if ``frozen`` of the weights or more are frozen.
Why it hurts: a network that cannot learn two examples by heart cannot learn thousands. What stands in the way is no
    matter of patience, of data or of tuning, but a mistake in the network, the loss or the input.
How to fix: repair the check that fails, which the message names; then make sure the two examples can be fitted.
When to ignore: when the loss is no distance from targets, as in reinforcement learning. It is silent on losses
    whose least value is not known (other than when no parameter gets any gradient), on losses with further terms,
    where the loss is still falling when the steps end, and where only these two give no gradient at first (an output
    clamped to the scale of the ratings) but the whole batch is learned. Where no check fails, it is taken back
    once the run itself brings the loss of all examples below ``share`` of what two of them still cost.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs).detach()
            self.log("train_accuracy", (scores.argmax(1) == labels).float().mean())
            penalty = sum(weight.square().sum() for weight in self.net.parameters())
            loss = F.cross_entropy(scores, labels) + 1e-4 * penalty
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(512, 8)
    labels = inputs[:, :3].argmax(1)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("train_accuracy", (scores.argmax(1) == labels).float().mean())
            penalty = sum(weight.square().sum() for weight in self.net.parameters())
            loss = F.cross_entropy(scores, labels) + 1e-4 * penalty
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = inputs[:, :3].argmax(1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.overfit import OverfitCall, OverfitCheck, OverfitTrial
    >>> from lightning_debug.record import Record
    >>> call = OverfitCall(function="mse_loss", line="train.py:14", value=2.0, after=1.0, floor=0.0, uninformed=1.0,
    ...                    spread=0.0, spread_after=0.0, targets_differ=True, fields=("batch[0]",))
    >>> trial = OverfitTrial(rate=0.03, losses=(2.0, 1.2, *(1.0,) * 30))
    >>> seen = OverfitCheck(samples=2, start=2.0, trials=(trial,), calls=(call,), steps=31, parameters=4,
    ...                     lost_in="net.2", lost_type="Linear")
    >>> [claim.subject for claim in cannot_overfit_batch(Record([seen]))]
    ['net.2']

References:
    Karpathy, A Recipe for Training Neural Networks, 2019: overfit one batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.evidence.optimization import UpdateAudit
from lightning_debug.evidence.overfit import OverfitCheck
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._overfit import Cause, cause_of, claimed, ends_early, is_understood, nothing_moves


@rule("LD605", severity=ERROR, needs=OverfitCheck, explains=("LD407", "LD702", "LD704", "LD705", "LD712"))
def cannot_overfit_batch(
    record: Record,
    *,
    share: float = 0.5,
    share_unexplained: float = 0.9,
    still: float = 0.05,
    frozen: float = 0.95,
) -> Iterator[Claim | Skip]:
    """Claims one finding for the first check of a fit that failed."""
    seen = record.first(OverfitCheck)
    if seen is None:
        return
    if ends_early(seen):
        yield claimed(seen, seen.calls[0], Cause.of_gradient_end(seen.calls[0]))
    elif seen.fits:
        return
    elif seen.cut_short:
        told = f"the check of two examples was cut short after {seen.steps} steps in {seen.seconds:.1f} seconds"
        yield Skip(told, hindrance=True)
    elif is_understood(seen):
        yield from _understood(seen, share, share_unexplained, still, _frozen(record, frozen), _trained(record, share))
    elif nothing_moves(seen):
        yield claimed(seen, None, Cause.of_no_gradient(seen))
    else:
        yield Skip("the least value of the loss is not known: it has terms that are no comparison with targets")


def _frozen(record: Record, share: float) -> Cause | None:
    """What to say where nothing else explains it and nearly all of the model is frozen."""
    audit = record.last(UpdateAudit)
    if audit is None or audit.frozen_share < share:
        return None
    return Cause(
        f"{100 * audit.frozen_share:.5g}% of the model's weights are frozen (requires_grad=False), and the rest cannot "
        "fit them",
        "requires_grad",
        "Unfreeze what is to learn, the last layer at least: layer.requires_grad_(True), before configure_optimizers.",
    )


def _trained(record: Record, share: float) -> bool:
    """Whether the run itself has brought the loss of all examples far below what two of them still cost."""
    seen, reading = record.first(OverfitCheck), record.last(CurveReading)
    best = None if seen is None else seen.best
    course = None if reading is None else reading.training
    return best is not None and course is not None and course.end < share * best.end


def _understood(
    seen: OverfitCheck, share: float, unexplained: float, still: float, otherwise: Cause | None, trained: bool
) -> Iterator[Claim | Skip]:
    """Judges a loss whose least value is known."""
    if any(call.left < share * (call.headroom or 0.0) for call in seen.calls):
        return
    call = seen.calls[0]
    if _only_these(seen):
        yield Skip("the two examples give no gradient at first, as where an output is clamped; the whole batch does")
        return
    cause = cause_of(seen, call)
    if _falls(seen, still) or (cause is None and _creeps(seen, still / 5)):
        yield Skip("the loss of two examples was still falling when the steps ended")
    elif cause is not None:
        yield claimed(seen, call, cause)
    elif trained:
        yield Skip("the run has brought the loss of all examples far below what two of them cost when it was tried")
    elif _rises(seen, still):
        yield Skip(
            "the loss of two examples rises at each rate: something that the step keeps, such as a queue, moves it"
        )
    elif all(call.left >= unexplained * (call.headroom or 0.0) for call in seen.calls) and _whole_stuck(seen):
        yield claimed(seen, call, otherwise)
    else:
        yield Skip("the loss of two examples stays high, but no check says why, and the whole batch may be learned")


def _only_these(seen: OverfitCheck) -> bool:
    """Whether the two examples give no gradient, but the whole batch is learned."""
    unreached = seen.without_gradient + seen.zero_gradient == seen.parameters > 0
    return unreached and any(trial.whole for trial in seen.trials) and not _whole_stuck(seen)


def _falls(seen: OverfitCheck, still: float) -> bool:
    """Whether the best trial was still on its way down."""
    best = seen.best
    if best is None:
        return True
    above = sum(call.left for call in seen.calls) / max(sum(call.after or 0.0 for call in seen.calls), 1e-30)
    return best.fall > still * abs(best.end) * above


def _rises(seen: OverfitCheck, still: float) -> bool:
    """Whether every trial ended above its start, the slowest as well, so that the weights alone do not decide."""
    trials = [trial for trial in seen.trials if len(trial.losses) > 1 and not trial.diverged]
    return len({trial.rate for trial in trials}) > 1 and all(
        trial.end > trial.losses[0] + still * abs(trial.losses[0]) for trial in trials
    )


def _creeps(seen: OverfitCheck, still: float, share_down: float = 0.8) -> bool:
    """Whether it fell slowly but surely, as where the targets are in the millions."""
    return _falls(seen, still) or (seen.best is not None and seen.best.share_down >= share_down)


def _whole_stuck(seen: OverfitCheck, falls: float = 0.05) -> bool:
    """Whether the whole batch was tried too, and its loss did not come down."""
    whole = [trial for trial in seen.trials if trial.whole and len(trial.losses) > 1]
    if seen.samples is None:
        return False  # many examples may be hard to learn
    if seen.samples == seen.batch:
        return True
    return len(whole) > 1 and all(
        min(trial.losses) > trial.losses[0] - falls * abs(trial.losses[0]) for trial in whole
    )  # fmt: skip
