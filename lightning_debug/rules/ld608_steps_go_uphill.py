"""Every step makes the loss larger.

What it sees: the real change of the weights in single steps, against the gradient that the step used: their inner
    product is positive, with a cosine of at least ``min_cosine``, so that the loss rises to first order at any
    learning rate; or the value that ``training_step`` returns is the negative of a known loss function. On at least
    ``min_steps`` steps, with one optimizer (and one backward pass a batch, where the optimization is manual), and
    only where the returned value is known to be a loss function of torch (or its negative). Or a sum in which one
    loss function (or a square, an exponential) has a minus and another a plus has fallen below zero, by ``far`` times
    what it began with and by more than 1: it falls without end as that function grows. Or training batches that were
    measured again, in ``min_steps`` epochs: what validation logs as their loss is the negative of what
    ``training_step`` returns for them, within ``alike`` of it, and grows as training goes on.
Why it hurts: the model is trained to be wrong. The loss climbs from the first step, or the returned value falls below
    zero without end.
How to fix: return the loss with its own sign; leave out ``maximize=True``; subtract the learning rate times
    the gradient.
When to ignore: in adversarial training and unlearning, where a loss is made large on purpose. It is silent with
    several optimizers, where most of the model is frozen, where the source speaks of attacks or unlearning, where
    ``maximize=True`` meets a negated loss, where a term with a minus stays within bounds, and on the first steps after
    a checkpoint, whose momentum leads on.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return -F.cross_entropy(self.head(self.body(inputs)), labels)

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
    >>> from lightning_debug.evidence.optimization import GroupUpdate, UpdateAudit
    >>> from lightning_debug.record import Record
    >>> group = GroupUpdate(optimizer="SGD", rate=0.1, maximize=True, update_norm=0.1, gradient_norm=1.0, slope=0.1)
    >>> seen = UpdateAudit(groups=(group,), first=True, loss_sign=1, loss_function="cross_entropy")
    >>> [claim.subject for claim in steps_go_uphill(Record([seen, seen]))]
    ['maximize']

References:
    https://pytorch.org/docs/stable/generated/torch.optim.SGD.html (maximize)
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading, TrainingLossInEval
from lightning_debug.evidence.optimization import GroupUpdate, UpdateAudit
from lightning_debug.evidence.run import RunContext
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule(
    "LD608",
    severity=ERROR,
    needs=UpdateAudit,
    explains=(
        *("LD210", "LD302", "LD303", "LD304", "LD305", "LD308", "LD309"),
        *("LD505", "LD601", "LD605", "LD701", "LD702", "LD705", "LD706", "LD707"),
    ),
)
def steps_go_uphill(
    record: Record, *, min_cosine: float = 0.1, min_steps: int = 2, far: float = 10.0, alike: float = 0.02
) -> Iterator[Claim]:
    """Claims a returned value that is negated, a term that is, or steps that climb."""
    yield from _falls_without_end(record, min_steps, far)
    yield from _other_sign_in_validation(record, min_steps, alike)
    first = [item for item in record.of(UpdateAudit) if item.loss_sign and item.optimizers == 1][: min_steps + 1]
    first = [item for item in first if any(_cosine(group) is not None for group in item.groups)]
    if len(first) < min_steps or len({item.loss_sign for item in first}) != 1:
        return
    last = first[-1]
    cosines = [cosine for item in first for group in item.groups if (cosine := _cosine(group)) is not None]
    uphill = all(cosine >= min_cosine for cosine in cosines)
    downhill = max(cosines[: len(last.groups)]) <= -min_cosine
    maximize = any(group.maximize for group in last.groups)
    alone = last.automatic or (last.single and len(first) > min_steps)
    if last.loss_sign < 0 and downhill and alone and not last.words and last.frozen_share <= 1 / 2:
        yield Claim(
            message=f"training_step {'returns' if last.automatic else 'calls backward on'} the negative of "
            f"{last.loss_function}: the steps go down along it (cosine {cosines[0]:.2f} with the gradient), and so "
            f"make {last.loss_function} larger.",
            subject="loss",
            measured={"loss_function": last.loss_function, "loss_sign": -1, "cosine": cosines[0], "steps": len(first)},
            fix="Return the squared error, or the negative log-likelihood: turn the sign of the loss."
            if last.loss_function in ("the squared error", "the loss of a likelihood")
            else f"Turn the sign of the loss: return {last.loss_function}"
            f"{'' if ' ' in last.loss_function else '(...)'} itself, not its negative.",
            at=last.at,
        )
    elif last.loss_sign > 0 and uphill:
        rates = [group.rate for group in last.groups if group.rate is not None]
        why = "maximize=True" if maximize else f"a learning rate of {min(rates):g}" if min(rates, default=1) < 0 else ""
        run = record.last(RunContext)
        if run is not None and run.resumed and not why:
            return  # the momentum of the checkpoint may lead elsewhere than the first gradients after it
        yield Claim(
            message=f"{len(first)} of {len(first)} steps move the weights along the gradient of {last.loss_function} "
            f"(cosine {min(cosines):.2f}), which makes it larger at any learning rate"
            + (f": the optimizer has {why}." if why else "."),
            subject="maximize" if maximize else "optimizer",
            measured={"cosine": min(cosines), "steps": len(first), "maximize": maximize},
            fix="Leave out maximize=True." if maximize else "Step against the gradient: subtract it from the weights.",
            at=last.at,
        )


def _falls_without_end(record: Record, min_steps: int, far: float) -> Iterator[Claim]:
    looks = [item for item in record.of(UpdateAudit) if item.against and item.optimizers == 1 and item.automatic]
    reading = record.last(CurveReading)
    course = reading.training if reading is not None else None
    if len(looks) < min_steps or course is None or looks[-1].words or looks[-1].frozen_share > 1 / 2:
        return
    name = looks[-1].against
    negated = name == "cross_entropy" and course.start < 0  # more than far nats each: all labels are all but ruled out
    limit = max(far, 1.5 * abs(course.start)) if negated else max(1.0, far * abs(course.start))
    if course.end >= -limit:
        return
    head = name.capitalize() if " " in name else name
    yield Claim(
        message=f"{head} enters the loss of training_step with a minus: in {course.steps} steps the loss falls from "
        f"{course.start:.4g} to {course.end:.4g}, below zero, as {name} grows without bound.",
        subject="loss",
        measured={"loss_function": name, "start": course.start, "end": course.end, "steps": course.steps},
        fix=f"Turn the sign of that term: add {name}{'' if ' ' in name else '(...)'} to the other terms.",
        at=looks[-1].at,
    )


def _other_sign_in_validation(record: Record, min_steps: int, alike: float) -> Iterator[Claim]:
    looks = [item for item in record.of(UpdateAudit) if item.optimizers == 1 and item.automatic]
    reading = record.last(CurveReading)
    name = reading.validation.name if reading is not None and reading.validation is not None else ""
    if not looks or looks[-1].words or looks[-1].frozen_share > 1 / 2 or any(item.loss_sign for item in looks):
        return
    if any(group.maximize for item in looks for group in item.groups) or not {"loss", "nll"} & _words(name):
        return
    again = [(seen, seen.by_validation) for seen in record.of(TrainingLossInEval) if seen.by_validation is not None]
    if len(again) < min_steps or any(abs(one.eval_mode + other) > alike * abs(other) for one, other in again):
        return
    (first, before), (last, after) = again[0], again[-1]
    if after <= 0 or after - before < abs(before) or last.eval_mode > first.eval_mode:
        return
    yield Claim(
        message=f"For {last.batches} training batches training_step returns {last.eval_mode:.4g} and validation logs "
        f"{after:.4g} as {name!r}, the negative of it, which was {before:.4g} in epoch {first.epoch}: the steps make "
        f"{name!r} larger.",
        subject="loss",
        measured={"training": last.eval_mode, "validation": after, "before": before, "name": name},
        fix="Turn the sign of what training_step returns; compute the loss in one method that both steps call.",
        at=last.at,
    )


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def _cosine(group: GroupUpdate) -> float | None:
    """Of gradient and change; ``None`` where the gradient is not what the step mainly used."""
    decays = group.weight_decay * group.weight_norm >= group.gradient_norm / 2
    if decays or group.optimizer.startswith("LBFGS") or not group.update_norm or not group.gradient_norm:
        return None
    return group.slope / (group.update_norm * group.gradient_norm)
