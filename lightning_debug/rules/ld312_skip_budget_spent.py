"""More steps were left out than max_skips allows.

What it sees: ``NonFiniteGuard(action="skip", max_skips=...)`` (or ``"rollback"``) has left out more optimizer steps
    than its budget, and training stops. What made those steps bad is in the findings LD301 to LD304.
Why it hurts: a run that leaves out step after step trains on less and less data, or on none, and nothing else says so.
How to fix: cure the cause that LD301 to LD304 name. Where some samples are known to be bad and rare, allow for them:
    a budget of twice their number an epoch, times the epochs.
When to ignore: never; without ``max_skips`` any number of steps is left out.
Broken:
    class Distances(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 4)

        def training_step(self, batch, batch_idx):
            first, second = self.net(batch[0]), self.net(batch[1])
            distance = torch.sqrt(((first - second) ** 2).sum(1))  # every batch holds a pair of twins
            loss = F.mse_loss(distance, batch[2])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    first, second = torch.randn(128, 8), torch.randn(128, 8)
    second[::8] = first[::8]
    target = (first - second).norm(dim=1) / 4
    loader = DataLoader(TensorDataset(first, second, target), batch_size=32)
    trainer = Trainer(max_epochs=5, callbacks=[NonFiniteGuard(action="skip", max_skips=5)])
    trainer.fit(Distances(), loader)
Repaired:
    class Distances(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(8, 4)

        def training_step(self, batch, batch_idx):
            first, second = self.net(batch[0]), self.net(batch[1])
            distance = torch.sqrt(((first - second) ** 2).sum(1) + 1e-8)
            loss = F.mse_loss(distance, batch[2])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    first, second = torch.randn(128, 8), torch.randn(128, 8)
    second[5] = first[5]
    target = (first - second).norm(dim=1) / 4
    loader = DataLoader(TensorDataset(first, second, target), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=2, callbacks=[NonFiniteGuard(action="skip", max_skips=5)])
    trainer.fit(Distances(), loader)

Example:
    >>> from lightning_debug.evidence.numbers import SkipBudget
    >>> from lightning_debug.record import Record
    >>> next(iter(skip_budget_spent(Record([SkipBudget(skipped=6, allowed=5)])))).message
    '6 optimizer steps were left out because they were not finite, more than max_skips=5: training stops.'
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.numbers import SkipBudget
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD312", severity=ERROR, needs=SkipBudget)
def skip_budget_spent(record: Record) -> Iterator[Claim]:
    """Claims a budget of skipped steps that is spent."""
    for event in record.of(SkipBudget):
        yield Claim(
            message=(
                f"{event.skipped} optimizer steps were left out because they were not finite, more than "
                f"max_skips={event.allowed}: training stops."
            ),
            subject=f"NonFiniteGuard(action='{event.action}')",
            measured={"skipped": event.skipped, "allowed": event.allowed},
            fix="Cure the cause that LD301 to LD304 name, or raise max_skips if so many samples are known to be bad.",
            at=event.at,
        )
