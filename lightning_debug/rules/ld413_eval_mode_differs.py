"""The same training batch costs far more in eval mode than in train mode, because of batch-norm.

What it sees: at the end of the first epochs, up to 64 samples of the first batch run in isolation: in train mode, in
    eval mode, and in eval mode once the batch-norms hold the statistics of these very samples. It speaks where the
    eval loss is at least ``ratio`` times the train loss and above it by ``excess`` of the loss before training, and
    right statistics take away ``cured`` of that. Two looks in a row must agree, after ``minimum_steps`` steps each,
    the difference must not have shrunk below ``closing`` of what it was, and no later look may take it back; one is
    enough where statistics were never updated, or are too slow (``momentum``) to arrive in the steps of the run.
Why it hurts: eval mode normalises by running statistics. Where these do not fit what the layers compute, validation
    and every later use of the model see another network than the one that is trained.
How to fix: leave ``momentum`` at 0.1 (PyTorch's is the share of the new batch: Keras's 0.99 is 0.01 here), do not set
    ``track_running_stats`` by hand, use larger batches or GroupNorm, and let all inputs a batch-norm sees come from
    one distribution.
When to ignore: when the model is always used in train mode. It is silent on what dropout makes a loss in train
    mode higher, the lag of running statistics in the first steps, and models without batch-norm.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            norm = nn.BatchNorm1d(32, momentum=0.0)
            self.net = nn.Sequential(nn.Linear(8, 32), norm, nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = 10.0 + 8.0 * torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 20).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            norm = nn.BatchNorm1d(32)
            self.net = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 32), norm, nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

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
    >>> from lightning_debug.evidence.modes import ModeGap, NormState
    >>> from lightning_debug.record import Record
    >>> norm = NormState(path="net.1", momentum=0.0, updates=48, untouched=True, distance=11.0)
    >>> gap = ModeGap(samples=32, steps=48, first_loss=0.7, train_loss=0.1, eval_loss=3.2, cured_loss=0.09,
    ...               norms=(norm,))
    >>> for claim in eval_mode_differs(Record([gap])):
    ...     print(claim.subject, "|", claim.message)
    net.1 | The same 32 training samples cost 3.2 in eval mode and 0.1 in train mode after 48 steps; with the
    statistics of this batch in its batch-norms it is 0.09. The running statistics of `net.1` never left 0 and 1
    (momentum=0.0).

References:
    https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html (momentum)
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.modes import ModeGap, NormState
from lightning_debug.evidence.run import RunContext
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import listed


@rule("LD413", severity=ERROR, needs=ModeGap, explains=("LD212", "LD309", "LD701", "LD703", "LD704", "LD711"))
def eval_mode_differs(
    record: Record,
    *,
    ratio: float = 2.0,
    excess: float = 0.25,
    cured: float = 0.8,
    minimum_steps: int = 50,
    closing: float = 0.5,
) -> Iterator[Claim]:
    """Claims one finding when the difference lasts, or its cause is plain."""

    def large(gap: ModeGap) -> bool:
        more = _excess(gap)
        return (
            gap.steps > 0
            and more >= excess * abs(gap.first_loss)
            and gap.eval_loss >= ratio * gap.train_loss
            and gap.eval_loss - gap.cured_loss >= cured * more
        )

    gaps, context = record.of(ModeGap), record.last(RunContext)
    planned = (context.planned_steps if context is not None else None) or 0
    for before, now in zip((None, *gaps), gaps, strict=False):
        if not large(now):
            continue
        lasting = before is not None and large(before) and before.steps >= minimum_steps
        if before is not None and _excess(now) < closing * _excess(before):
            lasting = False  # weights that move fast leave the statistics behind for a while
        plain = now.steps >= minimum_steps // 5 and any(
            _never_arrives(norm, 0 if now.last else planned) for norm in now.norms
        )
        if (lasting or plain) and large(gaps[-1]):
            yield _claim(now)
            return


def _excess(gap: ModeGap) -> float:
    return gap.eval_loss - gap.train_loss


def _never_arrives(norm: NormState, planned: int) -> bool:
    """Whether most of a running mean is still its starting value, and will be after as many steps as are planned."""
    if norm.untouched:
        return True
    momentum, updates = norm.momentum, norm.updates
    if momentum is None or updates is None:
        return False
    return (1.0 - momentum) ** max(updates, planned) > 0.5 and momentum < 0.05


def _claim(gap: ModeGap) -> Claim:
    worst = max(gap.norms, key=lambda norm: (norm.untouched, norm.distance))
    stale = [norm.path for norm in gap.norms if norm.untouched]
    if stale:
        why = f"The running statistics of {listed(stale)} never left 0 and 1"
    else:
        why = f"The running mean of `{worst.path}` is off by {worst.distance:.2g} standard deviations of the batch"
    how = f"momentum={worst.momentum}" if worst.tracks else "track_running_stats=False"
    if worst.calls > 1 and worst.tracks:
        how = f"it is called {worst.calls} times in a step, and keeps one mean for all of what it is given"
    return Claim(
        message=f"The same {gap.samples} training samples cost {gap.eval_loss:.2g} in eval mode and "
        f"{gap.train_loss:.2g} in train mode after {gap.steps} steps; with the statistics of this batch in its "
        f"batch-norms it is {gap.cured_loss:.2g}. {why} ({how}).",
        subject=worst.path,
        measured={
            "eval_loss": gap.eval_loss,
            "train_loss": gap.train_loss,
            "eval_loss_with_right_statistics": gap.cured_loss,
            "loss_before_training": gap.first_loss,
            "steps": gap.steps,
            "momentum": worst.momentum,
            "updates": worst.updates,
            "distance_of_running_mean": worst.distance,
        },
        fix="Set track_running_stats back to True."
        if not worst.tracks
        else f"Make a batch-norm of its own for each place that calls `{worst.path}`."
        if worst.calls > 1
        else "Leave momentum at 0.1, which is the share of the new batch."
        if worst.momentum is not None and worst.momentum < 0.05
        else f"Set momentum={max(1 - worst.momentum, 0.01):.2g}: it is the new batch's share (in Keras: the old one's)."
        if worst.momentum is not None and worst.momentum > 0.5
        else "Use larger batches, GroupNorm, or one batch-norm for each kind of input.",
        at=gap.at,
    )
