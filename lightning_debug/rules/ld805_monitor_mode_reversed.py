"""What monitors a value takes its worse side for the better one.

What it sees: the values that a ``ModelCheckpoint``, an ``EarlyStopping`` or a ``ReduceLROnPlateau`` decides by, after
    each validation, and their ``mode``. Which side is better is known from the torchmetrics object that is logged
    (``higher_is_better``), or else from a name that leaves no doubt (accuracy, F1, AUROC; loss, error, RMSE). Told
    where that is not the mode, three values or more are there, and the best of them came after the worst: so what is
    held for the best is a value that training has left behind.
Why it hurts: ``mode`` is ``"min"`` where nothing is said, and an accuracy is no loss. The checkpoint that is kept is
    the worst, of the first epoch in most runs; training is stopped while it goes well; the learning rate is lowered
    because the model gets better.
How to fix: give ``mode="max"`` where larger is better, and ``mode="min"`` where smaller is.
When to ignore: when the name says another thing than it does elsewhere. Names with words such as gap, neg, reward or
    elbo are not judged, nor values that only ever got worse, nor a checkpoint with ``save_top_k=0``.
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

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    labels = torch.randint(0, 4, (1200,))
    inputs = 2 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=8, callbacks=[pl.callbacks.EarlyStopping("val_accuracy", patience=4)])
    trainer.fit(Classifier(), train, val)
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

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            logits = self.net(inputs)
            self.log("val_loss", F.cross_entropy(logits, labels))
            self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    labels = torch.randint(0, 4, (1200,))
    inputs = 2 * torch.randn(4, 8)[labels] + torch.randn(1200, 8)
    train = DataLoader(TensorDataset(inputs[:960], labels[:960]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[960:], labels[960:]), batch_size=32)
    trainer = Trainer(max_epochs=8, callbacks=[pl.callbacks.EarlyStopping("val_accuracy", patience=4, mode="max")])
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.record import Record
    >>> seen = MonitoredValue(name="val_acc", mode="min", user="ModelCheckpoint", better="max", known_by="its name",
    ...                       count=9, lowest=0.21, highest=0.93, lowest_at=0, highest_at=7)
    >>> [claim.fix for claim in monitor_mode_reversed(Record([seen]))]
    ['Give it the other mode: ModelCheckpoint(monitor="val_acc", mode="max").']

References:
    https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.ModelCheckpoint.html
    https://lightning.ai/docs/pytorch/stable/common/early_stopping.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.schedules import PlateauWatch
from lightning_debug.evidence.selection import MonitoredValue
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._schedules_course import waiting

_EFFECTS = {
    "EarlyStopping": "counts every gain as a step back, and stops training after its patience",
    "ReduceLROnPlateau": "lowers the learning rate while the model gets better",
}


@rule("LD805", severity=ERROR, needs=MonitoredValue)
def monitor_mode_reversed(record: Record) -> Iterator[Claim | Skip]:
    """Claims one finding for each callback or schedule whose mode is the wrong one for what it monitors."""
    newest = {(seen.user, seen.name, seen.mode): seen for seen in record.of(MonitoredValue)}
    plateaus = {seen.monitor for seen in record.of(PlateauWatch) if waiting(seen)}
    for seen in newest.values():
        if seen.user.endswith("ReduceLROnPlateau") and seen.name in plateaus:
            yield Skip(f"LD604 tells of {seen.user}")
            continue
        if not seen.better:
            yield Skip(f"which values of {seen.name!r} are better is not known from its name")
        if not seen.is_reversed(seen.mode):
            continue
        low, high = (seen.lowest, seen.lowest_at), (seen.highest, seen.highest_at)
        (worst, worst_at), (best, best_at) = (low, high) if seen.better == "max" else (high, low)
        what = next((text for name, text in _EFFECTS.items() if seen.user.endswith(name)), "keeps the worst weights")
        side, other = ("smallest", "larger") if seen.mode == "min" else ("largest", "smaller")
        yield Claim(
            message=f"{seen.user} takes the {side} {seen.name} for the best (mode={seen.mode!r}), and by "
            f"{seen.known_by} {other} is better: it {what}. It holds {worst:.4g} of epoch {worst_at} for the best, and "
            f"epoch {best_at} had {best:.4g}.",
            subject=f"{seen.user} {seen.name}",
            measured={"mode": seen.mode, "better": seen.better, "held": worst, "best": best, "best_epoch": best_at},
            fix=f"Give it the other mode: {_call(seen)}.",
            at=seen.at,
        )


def _call(seen: MonitoredValue) -> str:
    if seen.user.endswith("ReduceLROnPlateau"):
        return f'{seen.user}(optimizer, mode="{seen.better}")'
    return f'{seen.user}(monitor="{seen.name}", mode="{seen.better}")'
