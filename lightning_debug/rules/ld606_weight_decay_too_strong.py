"""Weight decay outweighs the gradient, and the weights shrink to nothing.

What it sees: on the steps looked at, the decay's share of the update is at least ``ratio`` times the gradient's (in
    the middle of those steps), and the norm of a parameter group has fallen to ``shrunk`` of what it was or less, over
    at least ``min_steps`` optimizer steps. Where the decay is added to the gradient and is ``dominant`` times as large
    on every step looked at, the first ones too, steady shrinking alone will do: next to nothing was left of the
    gradient. ``outweighs`` times is enough where predictions do not depend on the input any more; there ``ratio`` on
    one step is enough too, if the norm has fallen to ``gone``: the gradients of what is left have another size. Where
    the training loss never fell, or gave back half of what it had, the steps count until the norm had fallen so.
Why it hurts: the optimizer's main work is then to make the weights small. Signals fade from layer to layer, outputs
    become constant, and the loss stays at that of guessing.
How to fix: lower ``weight_decay``. Usual values are 0 to 1e-4 with Adam and SGD, 0.01 to 0.1 with AdamW; Adam adds the
    decay to the gradient, so AdamW's values are far too strong for it.
When to ignore: when weights are meant to vanish (pruning by decay).
Broken:
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
            return torch.optim.Adam(self.parameters(), lr=3e-3, weight_decay=3.0)

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
            return torch.optim.Adam(self.parameters(), lr=3e-3, weight_decay=1e-4)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.optimization import GroupUpdate, UpdateAudit
    >>> from lightning_debug.record import Record
    >>> norms = ((0, 5.0), (10, 2.5), (50, 0.4))
    >>> record = Record()
    >>> for step, norm in norms:
    ...     group = GroupUpdate(optimizer="Adam", rate=1e-2, weight_decay=1.0, weight_norm=norm, gradient_norm=0.2,
    ...                         update_norm=0.1)
    ...     record.add(UpdateAudit(groups=(group,), steps=step))
    >>> [claim.subject for claim in weight_decay_too_strong(record)]
    ['weight_decay']

References:
    Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (https://arxiv.org/abs/1711.05101)
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.evidence.optimization import GroupUpdate, UpdateAudit
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import constant_outputs


@rule(
    "LD606",
    severity=WARNING,
    needs=UpdateAudit,
    explains=("LD305", "LD309", "LD505", "LD605", "LD701", "LD702", "LD703", "LD704", "LD705", "LD712"),
)
def weight_decay_too_strong(
    record: Record,
    *,
    ratio: float = 1.0,
    shrunk: float = 0.5,
    min_steps: int = 10,
    dominant: float = 100.0,
    outweighs: float = 10.0,
    gone: float = 0.05,
) -> Iterator[Claim]:
    """Claims one finding for each parameter group that shrinks under its decay."""
    constant = any(constant_outputs(record))
    history: dict[tuple[str, int], list[tuple[UpdateAudit, GroupUpdate]]] = {}
    for audit in record.of(UpdateAudit):
        for group in audit.groups:
            history.setdefault((group.optimizer, group.group), []).append((audit, group))
    for (optimizer, index), looks in history.items():
        (first, before), (last, after) = looks[0], looks[-1]
        if last.steps - first.steps < min_steps or not after.weight_decay or not before.weight_norm:
            continue
        shares = [share for _, group in looks if (share := _share(group)) is not None]
        left = after.weight_norm / before.weight_norm
        fades = left <= shrunk or _drowned(looks, outweighs if constant else dominant)
        pulls = statistics.median(shares) if shares else 0.0
        if constant and left <= gone:
            pulls = max(shares, default=0.0)
        if left <= shrunk and _harmed(record):
            pulls = max(pulls, _while_falling(looks, shrunk))
        if pulls >= ratio and fades:
            where = f" (group {index})" if index else ""
            yield Claim(
                message=f"weight_decay={after.weight_decay:g} of {optimizer}{where} pulls "
                f"{pulls:.3g} times as hard as the gradient: the norm of the weights falls from "
                f"{before.weight_norm:.3g} to {after.weight_norm:.3g} within {last.steps - first.steps} steps.",
                subject="weight_decay" if not index else f"weight_decay of group {index}",
                measured={
                    "weight_decay": after.weight_decay,
                    "decay_to_gradient": pulls,
                    "norm_before": before.weight_norm,
                    "norm_after": after.weight_norm,
                    "steps": last.steps - first.steps,
                },
                fix=f"Lower weight_decay: to 1e-4 or less with {optimizer}."
                if not after.decoupled
                else "Lower weight_decay: 0.01 to 0.1 are usual.",
                at=last.at,
            )


def _harmed(record: Record) -> bool:
    """Whether the training loss never fell, or gave back half of what it had."""
    reading = record.last(CurveReading)
    course = None if reading is None else reading.training
    if course is None or not all(map(math.isfinite, (course.start, course.lowest, course.end))):
        return False
    return course.end - course.lowest >= (course.start - course.lowest) / 2


def _while_falling(looks: list[tuple[UpdateAudit, GroupUpdate]], shrunk: float) -> float:
    """The share that the decay had until the weights had shrunk; from then on the gradient holds against it."""
    least = shrunk * looks[0][1].weight_norm
    falling = [group for _, group in itertools.takewhile(lambda look: look[1].weight_norm > least, looks)]
    shares = [share for group in falling if (share := _share(group)) is not None]
    return statistics.median(shares) if shares else 0.0


def _drowned(looks: list[tuple[UpdateAudit, GroupUpdate]], dominant: float) -> bool:
    """Whether the decay drowned the gradient from the first step on, and the weights shrank at every look.

    A net that has learned all it can has small gradients as well, but only at the end.
    """
    groups = [group for _, group in looks]
    shares = [None if group.decoupled else _share(group) for group in groups]
    if looks[0][0].steps > 1 or not all(share is not None and share >= dominant for share in shares):
        return False
    return all(after.weight_norm < before.weight_norm for before, after in itertools.pairwise(groups))


def _share(group: GroupUpdate) -> float | None:
    """How many times as large as the gradient's part of a step its decay is."""
    if group.decoupled:
        decay = abs(group.rate or 0.0) * group.weight_decay * group.weight_norm
        other = group.update_norm - decay
        return None if not group.update_norm else decay / max(other, 0.1 * group.update_norm)
    decay = group.weight_decay * group.weight_norm
    return decay / group.gradient_norm if group.gradient_norm else None
