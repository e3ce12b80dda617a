"""Predictions do not depend on the input.

What it sees: at the end of the first epochs, up to 13 samples run in isolation, in eval mode, and again with each
    sample in another's place. Predictions stay the same although inputs and targets differ. After ``minimum_steps``
    optimizer steps it is enough to see predictions stay the same to within rounding (``rounding`` of the largest);
    where they move by less than ``share`` of what they are to tell apart, two looks in a row must agree.
Why it hurts: the model has learned the average of the targets, and cannot learn more: nothing of the input comes
    through. Its loss looks as if training had converged early.
How to fix: find where the input is lost: the message names the call where differences between samples end. Usual
    causes: ReLUs that died at too high a learning rate, weights that start out as zero, saturated sigmoids,
    inputs so large or small that they do not count, or a tensor used in place of the input.
When to ignore: when targets do not depend on inputs. It is silent on targets that do not vary, the first steps, and
    on parameters that data are compared with directly.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 32)
            self.second = nn.Linear(32, 2)

        def forward(self, inputs):
            hidden = F.relu(-self.first(inputs).abs())
            return self.second(hidden)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=16)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 32)
            self.second = nn.Linear(32, 2)

        def forward(self, inputs):
            hidden = F.relu(self.first(inputs))
            return self.second(hidden)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=16)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.model import InputDependence, Place, SampleMixing
    >>> from lightning_debug.record import Record
    >>> relu = Place(name="relu", line="train.py:9")
    >>> seen = InputDependence(function="cross_entropy", line="train.py:14", module="second", samples=13, steps=32,
    ...                        change=0.0, scale=0.31, cause=relu)
    >>> for claim in constant_output(Record([seen])):
    ...     print(claim.subject, "|", claim.message)
    train.py:9 | Predictions do not depend on the input: with 13 samples exchanged, after 32 optimizer steps, they
    change by 0 of 0.31; differences between samples end at relu at train.py:9.

References:
    https://karpathy.github.io/2019/04/25/recipe/ (input-independent baseline)
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.model import InputDependence, Place, SampleMixing
from lightning_debug.evidence.overfit import OverfitCheck
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import constant_outputs, named
from lightning_debug.rules._overfit import Cause, alike_input


@rule(
    "LD309",
    severity=ERROR,
    needs=InputDependence,
    explains=("LD605", "LD702", "LD704", "LD705", "LD712"),
)
def constant_output(
    record: Record, *, minimum_steps: int = 10, rounding: float = 1e-6, share: float = 1e-3
) -> Iterator[Claim]:
    """Claims one finding for each prediction that is constant now."""
    for now in constant_outputs(record, minimum_steps, rounding, share):
        yield _claim(now, _input(record, now), _still(record, now))


def _input(record: Record, seen: InputDependence) -> Cause | None:
    """What is known of the batch, where all that these predictions are made from is alike."""
    checks = [(check, call) for check in record.of(OverfitCheck) for call in check.calls if call.line == seen.line]
    return next((found for found in (alike_input(*pair) for pair in checks) if found is not None), None)


def _still(record: Record, now: InputDependence) -> int | None:
    """An early step after which predictions still changed with the samples; ``None`` where none was seen."""
    early = [item.at.step for item in record.of(SampleMixing) if item.reached and item.at.step < now.steps / 2]
    return max(early, default=None)


def _claim(seen: InputDependence, alike: Cause | None, still: int | None = None) -> Claim:
    cause = seen.cause
    where = f"; differences between samples end at {named(cause)}" if cause.name else ""
    first = seen.unreached if alike is None and not cause.name else Place()
    if alike is not None and not cause.name:
        where = f": {alike.told}"
    if first.name:
        where = f": what {named(first)} at {first.line} is given does not change with them"
    line = f" at {cause.line}" if cause.name and cause.line else ""
    how = f"change by {seen.change:.2g} of {seen.scale:.2g}" if seen.scale else "are all 0"
    return Claim(
        message=f"Predictions do not depend on the input: with {seen.samples} samples exchanged, after {seen.steps} "
        f"optimizer steps, they {how}{where}{line}.",
        subject=(cause.name and cause.line) or first.line or seen.module or seen.line,
        measured={
            "samples": seen.samples,
            "change": seen.change,
            "largest_prediction": seen.scale,
            "to_tell_apart": seen.spread,
            "optimizer_steps": seen.steps,
        },
        fix=_cure(cause, line, still)
        if cause.name
        else alike.fix
        if alike is not None
        else f"Look at what is made of the batch before {named(first)}, as by a whole division, a cast or a mask."
        if first.name
        else "Lower the learning rate, normalise the inputs, and print the spread of each layer's output over samples.",
        at=seen.at,
    )


def _cure(cause: Place, line: str, still: int | None) -> str:
    if cause.module_type in ("LayerNorm", "RMSNorm") and cause.shape[-1:] == (1,):
        return (
            f"Take {named(cause)} away, or let it normalise more than one value: one value less its own mean is 0 for "
            "every sample."
        )
    if still is not None:
        return (
            f"Lower the learning rate, by a factor of 10 to begin with, and what presses on the weights (decay, "
            f"penalties): at step {still} predictions still changed with the samples, and training has made them "
            f"alike, at {named(cause)}{line}."
        )
    return f"Look at {named(cause)}{line}, where all samples become alike."
