"""Training changes none of the model's parameters.

What it sees: after the optimizer stepped (or, under manual optimization, never did), every trainable parameter that
    could be compared equals its value at the start, bit for bit, and the reason: the optimizer holds other tensors,
    ``training_step`` returns nothing, no gradient arrives, the gradient is zero, or zeroed between the backward pass
    and the step, the learning rate is 0, the updates are lost to rounding, a line search takes no step, or nothing
    steps. Except for the first reason it waits for ``min_batches`` batches or the end of training. Of several
    optimizers, one that never steps, though gradients come for its parameters and are zeroed in each batch.
Why it hurts: nothing is learned; the loss only wanders with the batches.
How to fix: what the reason says: build the optimizer from the parameters of the model as it is; return a loss that was
    not detached; set the learning rate; call ``optimizer.step()``.
When to ignore: never, where a model is to be trained. It is silent while a scheduler warms up from 0, where there is
    no optimizer at all, and where gradients are not finite (LD303).
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.head(self.body(inputs)), labels)
            return torch.tensor(loss.item(), requires_grad=True)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.head(self.body(inputs)), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.optimization import TrainingEffect
    >>> from lightning_debug.record import Record
    >>> seen = TrainingEffect(batches=20, optimizer_steps=20, backward_passes=20, trainable=4, compared=4,
    ...                       in_optimizer=4, optimized=4, with_gradient=4, nonzero_gradient=4, rate=0.0, ended=True)
    >>> [claim.subject for claim in nothing_trains(Record([seen]))]
    ['learning rate']

References:
    https://pytorch.org/docs/stable/optim.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.idle import IdleOptimizer
from lightning_debug.evidence.optimization import GradientCarryover, ParametersWithoutGradient, TrainingEffect
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule

Reason = tuple[str, str, str]


@rule(
    "LD408",
    severity=ERROR,
    needs=TrainingEffect,
    explains=("LD406", "LD407", "LD505", "LD602", "LD605", "LD702", "LD703", "LD704", "LD705", "LD712"),
)
def nothing_trains(record: Record, *, min_batches: int = 10) -> Iterator[Claim | Skip]:
    """Claims one finding with the reason, or one for each of several optimizers that never steps."""
    yield from _idle(record, min_batches)
    evidence = record.last(TrainingEffect)
    if evidence is None or evidence.changed or not evidence.compared:
        return
    if not evidence.optimized:
        yield Skip("there is no optimizer")
        return
    if not evidence.finite:
        return
    wiped = any(item.lost and item.lost >= item.batches - 1 for item in record.of(GradientCarryover))
    without = record.last(ParametersWithoutGradient)
    called = without is not None and any(item.calls == "gradient" for item in without.parameters)
    reason = _reason(evidence, evidence.ended or evidence.batches >= min_batches, wiped, called)
    if reason is None:
        return
    told, subject, fix = reason
    sooner = [item for item in record.of(TrainingEffect) if _known(item, min_batches, wiped, called) == subject]
    yield Claim(
        message=f"All {evidence.compared} trainable parameters are, to the last bit, what they were before "
        f"{evidence.batches} batches and {evidence.optimizer_steps} optimizer steps: {told}.",
        subject=subject,
        measured={
            "compared": evidence.compared,
            "changed": evidence.changed,
            "optimizer_steps": evidence.optimizer_steps,
            "in_optimizer": evidence.in_optimizer,
            "with_gradient": evidence.with_gradient,
            "learning_rate": evidence.rate,
        },
        fix=fix,
        at=(sooner or [evidence])[0].at,
    )


def _idle(record: Record, min_batches: int) -> Iterator[Claim]:
    for seen in record.of(IdleOptimizer):
        if seen.batches < min_batches or not seen.rate:
            continue
        place = f" number {seen.index} (of {seen.optimizers}, counted from 0)" if seen.index >= 0 else ""
        parts = ", ".join(f"`{part}`" for part in seen.parts[:3])
        yield Claim(
            message=f"{seen.optimizer}{place} never steps: gradients come for its {seen.parameters} parameters "
            f"({parts}) and are deleted in batch after batch, and after {seen.batches} batches all are, to the last "
            "bit, what they were.",
            subject="training_step",
            measured={"parameters": seen.parameters, "batches": seen.batches, "lost": seen.lost},
            fix=f"Call step() of the optimizer that holds {parts}, after its backward pass.",
            at=seen.at,
        )


def _known(seen: TrainingEffect, min_batches: int, wiped: bool, called: bool) -> str | None:
    reason = _reason(seen, seen.ended or seen.batches >= min_batches, wiped, called)
    return reason[1] if reason and not seen.changed else None


def _unstepped(seen: TrainingEffect) -> Reason | None:
    if not seen.ended or seen.automatic or not seen.with_gradient:
        return None
    return (
        "gradients arrive, and optimizer.step() is never called",
        "training_step",
        "Call self.optimizers().step() in training_step, or delete self.automatic_optimization = False.",
    )


def _not_returned(seen: TrainingEffect) -> Reason | None:
    """Parts of the model are called with gradients on, and nothing is handed on."""
    if seen.returned:
        return None
    told = "training_step returns nothing, so that no loss goes backward"
    return told, "training_step", "Return the loss from training_step."


def _left_out(seen: TrainingEffect) -> Reason:
    if not seen.trainable and seen.frozen >= seen.compared and seen.optimized >= seen.compared:
        told = "requires_grad has been switched off for each of them since training began"
        return (
            told,
            "requires_grad",
            "Set requires_grad = True again where the code that freezes them for a while ends.",
        )
    told = f"none of them is among the {seen.optimized} tensors that the optimizer holds"
    return told, "configure_optimizers", "Build the optimizer from the parameters that the model trains with."


def _reason(seen: TrainingEffect, settled: bool, wiped: bool, called: bool) -> Reason | None:
    stepped = seen.optimizer_steps >= 2
    if stepped and not seen.in_optimizer:
        return _left_out(seen)
    if not settled:
        return None
    if not stepped:
        return _unstepped(seen)
    if seen.followed and not seen.with_gradient:
        if seen.automatic and not seen.backward_passes:
            return _not_returned(seen) if called else None
        told = "no gradient reaches any of them"
        return (
            told,
            "loss",
            "Return the loss as torch computed it: without .item(), .detach(), .data, .numpy() or torch.tensor(...).",
        )
    if seen.rate == 0.0:
        if not seen.ended and seen.future_rate != 0.0:
            return None
        return "the learning rate is 0", "learning rate", "Set a learning rate above 0, or repair the schedule."
    if seen.followed and not seen.nonzero_gradient:
        told = "every gradient is zero throughout"
        if seen.frozen > seen.compared:
            told += f", and {seen.frozen} of {seen.frozen + seen.compared} parameters are frozen"
            return told, "requires_grad", "Unfreeze what is to be trained: the rest has no effect on the loss."
        return told, "loss", "Look for what makes the loss constant: dead units, a saturated output, a clamp."
    return _lost(seen, wiped)


def _lost(seen: TrainingEffect, wiped: bool) -> Reason:
    if wiped:
        told = "every gradient is zeroed between the backward pass and the step that is to use it"
        return told, "training_step", "Call zero_grad() before the backward pass, or after optimizer.step()."
    if seen.update_norm is None and (seen.rate or 0.0) >= 1e-3:  # a line search, which tries steps and takes none
        told = "the optimizer steps, and leaves them where they are"
        return told, "optimizer", "Look for gradients that all but vanish (saturated, dead units): no step helps there."
    rate = "" if seen.rate is None else f" of {seen.rate:g}"
    told = f"the updates at a learning rate{rate} are lost to rounding"
    return told, "learning rate", "Raise the learning rate, or keep the weights in float32."
