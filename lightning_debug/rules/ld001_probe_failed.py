"""A probe of this tool raised an exception; training went on without it.

What it sees: an exception inside one of this tool's own callbacks or probes. It is caught, recorded
    with its traceback (in the JSON report), and the training run continues. A hook that fails three
    times is switched off for the rest of the fit.
Why it hurts: it does not hurt the run. What that probe would have seen is not judged.
How to fix: report it with the traceback from ``report.json``. ``Debugger(strict=True)`` lets the
    exception through, for debugging the probe itself.
When to ignore: whenever the finding is about something you do not need.
Broken:
    class OddModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 2)

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    class FailingProbe(lightning_debug.DebugCallback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            raise ValueError("a bug of ours")

    inputs = torch.randn(64, 8)
    labels = (inputs[:, 0] > 0).long()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=2, callbacks=[FailingProbe()])
    trainer.fit(OddModel(), loader)
Repaired:
    class OddModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 2)

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(64, 8)
    labels = (inputs[:, 0] > 0).long()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=2)
    trainer.fit(OddModel(), loader)

Example:
    >>> from lightning_debug.evidence import ProbeFailure
    >>> from lightning_debug.record import Record
    >>> failure = ProbeFailure(where="LossInspector.on_train_start", error="ValueError: x", traceback="...")
    >>> [claim.subject for claim in probe_failed(Record([failure]))]
    ['LossInspector.on_train_start']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence import ProbeFailure
from lightning_debug.finding import INFO, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD001", severity=INFO, needs=ProbeFailure)
def probe_failed(record: Record) -> Iterator[Claim]:
    """Claims one finding for each place that raised."""
    for failure in record.of(ProbeFailure):
        off = "; it is switched off for the rest of the fit" if failure.given_up else ""
        yield Claim(
            message=f"{failure.where} raises {failure.error}{off}; training goes on.",
            subject=failure.where,
            measured={"error": failure.error, "traceback": failure.traceback},
            fix="Nothing in your program needs to change; please report the traceback in report.json.",
            at=failure.at,
        )
