"""Gradients are clipped while they are still multiplied by the gradient scaler's scale.

What it sees: for the first steps under a gradient scaler, the gradients' norm and their largest absolute value as the
    backward pass leaves them and again when the scaler unscales them. A norm, or a largest value, that has been cut in
    between to the same number on ``min_steps`` steps is a clipping of scaled gradients. It is claimed where what the
    optimizer gets is less than ``share`` of what arrived, and below ``largest``.
Why it hurts: a threshold of 1 at a scale of 65536 is a threshold of 0.000015: every step is clipped to nearly nothing,
    by another amount whenever the scale changes; SGD stands still and Adam's eps begins to matter.
How to fix: clip where Lightning has unscaled: ``Trainer(gradient_clip_val=...)`` in automatic optimization, and
    ``NonFiniteGuard(max_norm=...)`` or the module's ``on_before_optimizer_step`` in manual optimization. With a
    scaler of your own: ``scaler.unscale_(optimizer)`` before clipping.
When to ignore: where the threshold is multiplied by the scale on purpose and still meant to be below ``largest``.
Broken:
    from pytorch_lightning.plugins import MixedPrecision

    class Manual(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.manual_backward(loss)  # multiplied by the scale
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()  # unscales
            self.log("train_loss", loss)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    inputs = torch.randn(512, 16)
    labels = inputs[:, :4].argmax(1)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    trainer = Trainer(max_epochs=2, plugins=[precision])
    trainer.fit(Manual(), loader)
Repaired:
    from pytorch_lightning.plugins import MixedPrecision

    class Manual(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.manual_backward(loss)
            optimizer.step()
            self.log("train_loss", loss)

        def on_before_optimizer_step(self, optimizer):  # unscaled by now
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    inputs = torch.randn(512, 16)
    labels = inputs[:, :4].argmax(1)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    trainer = Trainer(max_epochs=2, plugins=[precision])
    trainer.fit(Manual(), loader)

Example:
    >>> from lightning_debug.evidence.optimization import ScaledClipping
    >>> from lightning_debug.record import Record
    >>> seen = ScaledClipping(scales=(1024.0,) * 3, arrived=(900.0, 700.0, 800.0), clipped=(1.0,) * 3)
    >>> next(iter(clipped_before_unscale(Record([seen])))).message[:85]
    'Gradients are clipped to norm 1 while they are multiplied by the scale 1024 of the gr'
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from lightning_debug.evidence.optimization import ScaledClipping
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD311", severity=ERROR, needs=ScaledClipping, explains=("LD602",))
def clipped_before_unscale(
    record: Record, *, share: float = 0.1, largest: float = 0.01, min_steps: int = 3
) -> Iterator[Claim]:
    """Claims gradients that are cut to one norm before they are unscaled."""
    told: set[int] = set()
    for event in record.of(ScaledClipping):
        rows = [
            row
            for row in zip(event.arrived, event.clipped, event.scales, strict=True)
            if event.index not in told and 0 < row[1] < share * row[0] and row[1] < largest * row[2]
        ]
        if len(rows) < min_steps:
            continue
        limits = [clipped for _, clipped, _ in rows]
        sizes = [arrived for arrived, _, _ in rows]
        same = max(limits) - min(limits) <= 1e-3 * max(limits)
        varied = max(sizes) - min(sizes) > 1e-2 * max(sizes)
        if same and varied:
            told.add(event.index)
            yield _claim(event, rows)


def _claim(event: ScaledClipping, rows: list[tuple[float, float, float]]) -> Claim:
    limit, scale = statistics.median(row[1] for row in rows), rows[-1][2]
    meant = statistics.median(arrived / scale for arrived, _, scale in rows)
    used = limit / scale
    where = f", at {event.line}" if event.line else ""
    values = event.size == "value"
    guard = "" if values else f", or with NonFiniteGuard(max_norm={limit:.3g})"
    way = ', gradient_clip_algorithm="value"' if values else ""
    if event.own:
        fix = "Call scaler.unscale_(optimizer) before clipping."
    elif event.automatic:
        fix = (
            f"Take the clipping out and set Trainer(gradient_clip_val={limit:.3g}{way}): Lightning unscales before it."
        )
    else:
        fix = f"Clip in on_before_optimizer_step, where gradients are unscaled{guard}."
    return Claim(
        message=(
            f"Gradients are clipped to {'values of at most' if values else 'norm'} {limit:.3g} while they are "
            f"multiplied by the scale {scale:g} of the gradient scaler{where}: the optimizer gets "
            f"{'values of up to' if values else 'a norm of'} {used:.2g} in place of {meant:.2g}, in {len(rows)} of "
            f"{len(event.arrived)} steps."
        ),
        subject=event.line or "the clipping of gradients",
        measured={
            "threshold": limit,
            "scale": scale,
            f"arrived_{event.size}": meant,
            f"used_{event.size}": used,
            "steps": len(rows),
        },
        fix=fix,
        at=event.at,
    )
