"""The gradient explodes: its norm jumps far above the run's own, and the loss jumps with it.

What it sees: the gradient norm before clipping and the loss of every step (of large models on a CPU the norm of one
    step in ten, and of those where it moves). At some step the norm is more than ``factor`` times the largest of the
    ``history`` norms before, and the median loss of the ``after`` steps that
    follow gives back more than the share ``lost`` of all that had been learned.
Why it hurts: one such step throws the weights far away from where training had brought them; what follows is a
    restart from a worse place, and with momentum and Adam's averages the damage lasts.
How to fix: clip the gradient at a few times its usual norm (``NonFiniteGuard(max_norm=...)`` or the Trainer's
    ``gradient_clip_val``), look at the batch of that step, and lower the learning rate.
When to ignore: when the loss recovers at once and the data are known to have outliers. Silent on warm-up, on norms
    that grow slowly, on jumps that the loss does not follow or recovers from, on clipped training that learns, and on
    several losses or optimizers.
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

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    labels = torch.randint(0, 4, (960,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)
    inputs[700] *= -1e4  # one broken sensor reading
    torch.manual_seed(2)
    train = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train)
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

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    labels = torch.randint(0, 4, (960,))
    inputs = torch.randn(4, 8)[labels] + 0.5 * torch.randn(960, 8)
    inputs = inputs.clamp(-5, 5)
    train = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train)

Example:
    >>> from lightning_debug.evidence.numbers import StepWindow
    >>> from lightning_debug.record import Record
    >>> losses = tuple(2.0 - 0.03 * step for step in range(50)) + (0.5, *(9.0,) * 20)
    >>> norms = {"gradient_norm": (1.0,) * 50 + (400.0,) + (3.0,) * 20}
    >>> window = StepWindow(steps=tuple(range(71)), losses={"loss": losses}, gradient_norms=norms)
    >>> [claim.message for claim in exploding_gradient(Record([window]))]
    ['The gradient norm jumps to 400 at step 50, from 1 in the 10 steps before, and the loss from 0.665 to 9.']

References:
    Pascanu et al., On the difficulty of training recurrent neural networks (2013), section 2.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from lightning_debug.evidence.numbers import StepWindow
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._step_history import series


@rule("LD305", severity=WARNING, needs=StepWindow, explains=("LD701", "LD713"))
def exploding_gradient(
    record: Record, *, factor: float = 30.0, history: int = 10, after: int = 10, lost: float = 0.5
) -> Iterator[Claim | Skip]:
    """Claims one finding at the first jump that the loss follows."""
    runs = series(record)
    if not runs:
        yield Skip("no steps in a row have one loss and one gradient norm each")
        return
    for run in runs:
        known = [index for index, norm in enumerate(run.norms[: len(run.norms) - after]) if norm is not None]
        taken = [norm for norm in run.norms if norm is not None]
        for place, index in enumerate(known[history:], history):
            norm, before = taken[place], taken[place - history : place]
            if norm <= factor * max(before) or max(before) <= 0:
                continue
            start = statistics.median(run.losses[:history])
            level = statistics.median(run.losses[index - history : index])
            best = min(start, level)
            follow = statistics.median(run.losses[index + 1 : index + 1 + after])
            learned = max(start - best, abs(best))
            if follow <= level + lost * learned or follow <= max(run.losses[index - history : index]):
                continue
            usual = statistics.median(before)
            yield Claim(
                message=f"The gradient norm jumps to {norm:.3g} at step {run.steps[index]}, from "
                f"{usual:.3g} in the {history} steps before, and the loss from {level:.3g} to {follow:.3g}.",
                subject="gradients",
                measured={"norm": norm, "usual": usual, "step": run.steps[index], "loss": follow},
                fix=f"Clip: NonFiniteGuard(max_norm={3 * usual:.2g}), three times the usual norm; look at that batch, "
                "and lower the learning rate.",
            )
            return
