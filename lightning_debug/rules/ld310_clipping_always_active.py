"""Gradient clipping is active on nearly every step.

What it sees: the threshold on the gradient norm (``NonFiniteGuard(max_norm=…)`` or the Trainer's
    ``gradient_clip_val``) is below the norm in at least ``share`` of the last ``min_steps`` optimizer steps whose norm
    was taken.
Why it hurts: it need not. But then every step has the same length whatever the gradient says: the threshold acts as a
    second learning rate, the batches with large gradients get no more say than others, and Adam hardly notices it.
How to fix: set the threshold by the run's own norms, above their median, so that it catches only the outliers; or
    know that you train with normalised gradients, and tune the learning rate for that.
When to ignore: when a small threshold is part of the recipe (many language models clip at 1.0 from the first step on),
    or training goes well.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    inputs = torch.randn(512, 8)
    labels = (inputs[:, 0] > 0).long()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=4, gradient_clip_val=1e-3)
    trainer.fit(Classifier(), loader)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    inputs = torch.randn(512, 8)
    labels = (inputs[:, 0] > 0).long()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=4, gradient_clip_val=2.0)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.numbers import StepWindow
    >>> from lightning_debug.record import Record
    >>> norms = {"gradient_norm": (3.0,) * 100}
    >>> window = StepWindow(gradient_norms=norms, clip_norm=1.0, clipped_by="x", optimizer_steps=100, clipped=100)
    >>> [claim.measured["clipped"] for claim in clipping_always_active(Record([window]))]
    [100]
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from lightning_debug.evidence.numbers import StepWindow
from lightning_debug.finding import INFO, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD310", severity=INFO, needs=StepWindow)
def clipping_always_active(record: Record, *, share: float = 0.95, min_steps: int = 100) -> Iterator[Claim]:
    """Claims a threshold that is hit on nearly every step of the latest windows."""
    windows: list[StepWindow] = []
    for window in reversed(record.of(StepWindow)):
        if window.clip_norm is None or (windows and window.clip_norm != windows[0].clip_norm):
            break
        windows.append(window)
        steps = sum(item.optimizer_steps for item in windows)
        if steps < min_steps:
            continue
        clipped = sum(item.clipped for item in windows)
        taken = [norm for item in windows for values in item.gradient_norms.values() for norm in values]
        norms = [norm for norm in taken if norm is not None and math.isfinite(norm)]
        if clipped >= share * steps and norms:
            yield _claim(windows[0], clipped, steps, statistics.median(norms))
        return


def _claim(window: StepWindow, clipped: int, steps: int, median: float) -> Claim:
    return Claim(
        message=(
            f"{window.clipped_by} = {window.clip_norm:g} is below the gradient norm in {clipped} of the last {steps} "
            f"optimizer steps (median norm {median:.3g}): every step is scaled to the same length."
        ),
        subject=window.clipped_by,
        measured={"threshold": window.clip_norm, "clipped": clipped, "steps": steps, "median_norm": median},
        fix=f"Raise it above the median norm (say {2 * median:.2g}) to catch outliers only, or keep it knowingly.",
        at=window.at,
    )
