"""A weight or a buffer is NaN or infinite.

What it sees: parameters, and buffers with NaN (or +Inf in a normalisation layer): before the first step (a
    checkpoint, an initialisation), after a bad step, and at the end of each epoch. A loss or gradient that is bad
    because a weight was bad before the step is told here.
Why it hurts: whatever such a weight touches is NaN, for good: no gradient can bring it back. Bad running statistics
    of a batch-norm do not show in training, and make every validation NaN.
How to fix: find the step or the file that made it. A checkpoint with NaN was saved after the run had broken: take an
    earlier one. An update that overflows wants a lower learning rate, an ``eps`` above 0 or clipping.
When to ignore: masks of -Inf in buffers, and infinite starting values of trackers, are not reported.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
            with torch.no_grad():
                self.net[2].weight.div_(self.net[2].bias.new_zeros(()))  # an initialisation that divides by 0

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(128, 8)
    labels = (inputs[:, 0] > 0).long()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=1)
    trainer.fit(Classifier(), loader)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
            with torch.no_grad():
                self.net[2].weight.div_(2.0)

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(128, 8)
    labels = (inputs[:, 0] > 0).long()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=1)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.numbers import NonFiniteTensor, WeightsCheck
    >>> from lightning_debug.record import Record
    >>> weight = NonFiniteTensor(name="net.weight", kind="parameter", numel=4, nan=4, trainable=True)
    >>> record = Record([WeightsCheck(bad=(weight,), bad_count=1)])
    >>> next(iter(nonfinite_parameter(record))).message
    'The parameter net.weight holds 4 NaN among 4 values before the first step.'
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence import Moment
from lightning_debug.evidence.numbers import NonFiniteStep, NonFiniteTensor, WeightsCheck
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._step_history import broken_before


@rule("LD304", severity=ERROR, needs=WeightsCheck, explains=("LD309", "LD312"))
def nonfinite_parameter(record: Record) -> Iterator[Claim]:
    """Claims the bad tensor that made a step bad, or else the first bad parameter and the first bad buffer."""
    start = record.first(WeightsCheck)
    initial = {item.name for item in start.bad} if start is not None else set()
    for event in record.of(NonFiniteStep):
        if event.gradient_count and not broken_before(event) and event.action == "warn":
            break  # its gradient went into the weights
        item = next((one for one in event.weights if event.origin and one.name == event.origin.name), None)
        if item is not None and broken_before(event):
            when = "start" if item.name in initial else "update"
            yield _claim(item, len([one for one in event.weights if one.kind == item.kind]), event.at, when, event)
            return  # whatever else is bad by now is so because of it
    told: set[str] = set()
    for check in record.of(WeightsCheck):
        bad = [item for item in check.bad if _counts(item, initial)]
        for kind in ("parameter", "buffer"):
            of_kind = [item for item in bad if item.kind == kind]
            if of_kind and kind not in told:
                told.add(kind)
                by_hand = check.when in ("epoch", "end") and record.first(NonFiniteStep) is None
                yield _claim(of_kind[0], len(of_kind), check.at, "by hand" if by_hand else check.when, None)


def _counts(item: NonFiniteTensor, initial: set[str]) -> bool:
    """Whether a tensor is at fault: starting values of trackers are not."""
    if item.trainable:
        return True
    layer = "Norm" in item.module
    if item.kind == "parameter":
        return bool(item.nan)
    return (bool(item.nan) and (layer or item.name not in initial)) or (layer and bool(item.positive))


def _claim(item: NonFiniteTensor, count: int, at: Moment, when: str, event: NonFiniteStep | None) -> Claim:
    counts = {"NaN": item.nan, "+Inf": item.positive, "-Inf": item.negative}
    held = ", ".join(f"{many} {name}" for name, many in counts.items() if many)
    more = f" ({count} {item.kind}s are not finite)" if count > 1 else ""
    times = {
        "start": "before the first step",
        "update": f"at step {at.step}, and was finite at the start: an update has made it so",
        "step": f"after step {at.step}",
        "epoch": f"at the end of epoch {at.epoch}",
        "by hand": f"at the end of epoch {at.epoch}, and no gradient was bad until then",
    }
    loss = ""
    if event is not None and event.loss is not None and event.loss != event.loss:
        loss = ", and the loss is NaN"
    return Claim(
        message=f"The {item.kind} {item.name} holds {held} among {item.numel} values {times[when]}{loss}{more}.",
        subject=item.name,
        measured={
            "nan": item.nan,
            "positive_infinity": item.positive,
            "negative_infinity": item.negative,
            "values": item.numel,
            "tensors": count,
            "when": when,
            "module": item.module,
            "learning_rate": event.learning_rate if event is not None else None,
            "epsilon": event.epsilon if event is not None else None,
        },
        fix=_fix(item, when, event),
        at=at,
    )


def _fix(item: NonFiniteTensor, when: str, event: NonFiniteStep | None) -> str:
    if when == "start":
        return (
            "Look at the checkpoint it was loaded from (take an earlier one), at its initialisation, or at code that "
            "writes into it (a row of zeros divided by its norm)."
        )
    if item.kind == "buffer":
        return (
            "One batch has spoiled it for good: repair that batch's cause, then set the buffer to its starting value."
        )
    if when == "by hand":
        return (
            "Look at code that writes into it beside the optimizer (a hook, or a line under no_grad): a row of zeros "
            "divided by its norm needs norm.clamp_min(1e-8)."
        )
    if event is not None:
        known = [f"lr={event.learning_rate:g}"] if event.learning_rate is not None else []
        known += [f"eps={event.epsilon:g}"] if event.epsilon is not None else []
        told = f" ({', '.join(known)})" if known else ""
        cure = "give it an eps above 0 (1e-8)" if event.epsilon == 0.0 else "lower the rate"
        return f"The gradient was finite; {event.optimizer or 'the optimizer'}'s update{told} made it: {cure}."
    return "Repair what made the gradient bad; NonFiniteGuard(action='skip') keeps it out of the weights."
