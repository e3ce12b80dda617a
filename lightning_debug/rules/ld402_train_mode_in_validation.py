"""Modules validate, or test, while they are in train mode.

What it sees: dropout, batch-norm, recurrent nets and attention with dropout that were in train mode when
    ``validation_step`` or ``test_step`` called them, and batch-norms whose running statistics were updated from
    validation data.
Why it hurts: dropout makes the metrics noisy and too low; batch-norm normalises by the validation batch, so a
    sample's prediction depends on its neighbours, and its running statistics, which are part of the model, are
    learned from validation data. Checkpoints and early stopping then go by numbers that the model does not have.
How to fix: remove the ``.train()`` that reaches the model during validation: Lightning has called ``.eval()``
    before, and puts the training modes back afterwards. ``ModeChecker(action="fix")`` puts the culprits into
    eval mode before the next batch.
When to ignore: for Monte Carlo dropout whose draws are all made in one call (repeated rows). It is silent when
    dropout layers alone are put into train mode, one by one, and batch-norms alone likewise; on dropout that a
    function with "mc", "monte_carlo", "bayes" or "uncertain" in its name switches on; on dropout in a module that is
    given the same tensor ``draws`` times in a batch; and on dropout that is switched on and off within a step.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.net(inputs), labels)

        def on_validation_epoch_start(self):
            self.net.train()

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self.net(inputs), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.modes import ModeChange, TrainModule, ValidationModes
    >>> from lightning_debug.record import Record
    >>> norm = TrainModule(path="net.1", class_name="BatchNorm1d", role="batch-norm", root="net", train_calls=1,
    ...                    left=True, updates=1, change=ModeChange(phase="validation_step"))
    >>> for claim in train_mode_in_validation(Record([ValidationModes(model="Net", watched=2, in_train=(norm,))])):
    ...     print(claim.subject, "|", claim.message)
    net | 1 of 2 modules whose mode matters validates in train mode (`net.1` (BatchNorm1d)): they enter it in
    validation_step, and 1 batch-norm learns running statistics from validation data (1 update in one batch).

References:
    https://lightning.ai/docs/pytorch/stable/common/lightning_module.html#validation
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lightning_debug.evidence.modes import TrainModule, ValidationModes
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._modes import at_line, by_class, common_prefix, listed

_DECLARED = re.compile(r"(?i:monte.?carlo|bayes|uncertain)|(?<![A-Z])MC(?=[A-Z_]|$)|(?:^|[_.])mc(?=_|$)")


@rule("LD402", severity=ERROR, needs=ValidationModes, explains=("LD413",))
def train_mode_in_validation(record: Record, *, draws: int = 3) -> Iterator[Claim]:
    """Claims one finding for each way in which modules came into train mode."""
    claimed: set[str] = set()
    for evidence in record.of(ValidationModes):
        groups: dict[tuple[str, str], list[TrainModule]] = {}
        for item in _at_fault(evidence, draws):
            if item.path not in claimed:
                claimed.add(item.path)
                key = (item.change.hook, item.change.line) if item.change.line else (item.change.phase, "")
                groups.setdefault(key, []).append(item)
        for group in groups.values():
            yield _claim(evidence, group)


def _at_fault(evidence: ValidationModes, draws: int) -> list[TrainModule]:
    """Modules that ran in train mode, less those that were evidently meant to."""
    found = [item for item in evidence.in_train if item.train_calls != 0]
    norms = [item for item in found if item.role == "batch-norm" and (item.updates or item.left) and not item.alone]
    meant = {item.path for item in found if _declared(item) or item.draws >= draws}
    others = [item for item in found if item.role != "batch-norm" and item.left and item.path not in meant]
    if not norms and all(item.alone for item in others):
        return []  # dropout layers alone, one by one: Monte Carlo dropout
    return norms + others


def _declared(item: TrainModule) -> bool:
    names = (*item.change.hook.split("."), *item.change.through)
    return any(_DECLARED.search(name) for name in names)


def _claim(evidence: ValidationModes, group: Sequence[TrainModule]) -> Claim:
    change = group[0].change
    root = common_prefix([item.root for item in group])
    place = f"`{root}`" if root else f"the whole {evidence.model}"
    fix = (
        f"Remove the .train() that reaches {place} during validation: Lightning puts the training modes back by itself."
    )
    if change.override:
        who = f"{change.hook} is overridden{at_line(change)} and does not call .eval()"
        fix = f"Delete {change.hook}, or have it call self.trainer.model.eval()."
    elif change.watched:
        who = f"{change.hook} calls .train(){at_line(change)}"
    elif change.line:
        who = f"{change.hook} sets train mode{at_line(change)}"
    else:
        who = f"they enter it in {change.phase}"
    updates = sum(item.updates for item in group)
    learning = sum(item.updates > 0 for item in group)
    data = "test data" if evidence.at.stage == "test" else "validation data"
    proof = ""
    if updates:
        proof = f", and {learning} batch-norm{'s learn' if learning > 1 else ' learns'} running statistics from {data}"
        proof += f" ({updates} update{'s' * (updates > 1)} in one batch)"
    verb = ("test" if evidence.at.stage == "test" else "validate") + "s" * (len(group) == 1)
    names = listed((item.path, item.class_name) for item in group)
    return Claim(
        message=f"{len(group)} of {evidence.watched} modules whose mode matters {verb} in train mode "
        f"({names}): {who}{proof}.",
        subject=change.line or root or evidence.model,
        measured={
            "modules": tuple(item.path for item in group),
            "classes": by_class(item.class_name for item in group),
            "modules_whose_mode_matters": evidence.watched,
            "batch_norm_updates": updates,
            "set_by": change.hook or change.phase,
            "put_back_by_mode_checker": evidence.fixed,
        },
        fix=fix + (" ModeChecker puts them into eval mode from the next batch on." if evidence.fixed else ""),
        at=evidence.at,
    )
