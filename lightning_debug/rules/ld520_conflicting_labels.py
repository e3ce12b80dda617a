"""Equal inputs have different labels.

What it sees: of the training samples, at least ``share`` and ``fewest`` would need another label for all samples with
    equal inputs to agree. Inputs so coarse that chance makes equal ones are left out, as in duplicated-samples:
    copies must be ``margin`` times as many as the values' entropy lets expect.
Why it hurts: no net can get both right: the loss has a floor, and accuracy a ceiling. Copies with labels that differ
    are mostly a join gone wrong, two annotators whose answers were both kept, or samples that lost what tells them
    apart.
How to fix: keep one label for each input (the majority's), or give the net the field that tells the samples apart.
When to ignore: when labels are opinions and every opinion counts, or below a few per cent of label noise. Silent on
    amounts, on soft and multi-label targets, on tiny discrete inputs, on a few situations that come again and again
    (games, simulations), and where every input is there as often, thrice or more, and most labels differ (logged
    actions).
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
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    again = torch.cat([inputs, inputs[:120]]), torch.cat([labels, (labels[:120] + 1) % 4])
    loader = DataLoader(TensorDataset(*again), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)
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
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.data_relations import SampleCopies
    >>> from lightning_debug.record import Record
    >>> found = SampleCopies(samples=720, copies=120, exact=128, labelled=True, conflicting=240, fewest_conflicting=120,
    ...                      compared=8)
    >>> [claim.subject for claim in conflicting_labels(Record([found]))]
    ['labels of the training dataset']

References:
    Northcutt, Athalye and Mueller (2021), Pervasive label errors in test sets: https://arxiv.org/abs/2103.14749
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_relations import SampleCopies
from lightning_debug.finding import WARNING, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD520", severity=WARNING, needs=SampleCopies, explains=("LD507",))
def conflicting_labels(
    record: Record, *, share: float = 0.02, fewest: int = 10, margin: float = 10.0
) -> Iterator[Claim | Skip]:
    """Claims one finding if equal inputs disagree about their label."""
    for found in record.of(SampleCopies):
        if not found.labelled:
            yield Skip("samples have no label of one class each")
            continue
        if found.fewest_conflicting < max(fewest, share * found.samples):
            continue
        if found.compared < 2 or found.near * 2 >= found.exact or margin * found.expected >= found.copies:
            yield Skip("inputs are so few discrete values that chance makes equal samples")
            continue
        if found.largest * 10 > found.samples or (found.streams and 2 * found.copies > found.samples):
            yield Skip("the inputs are a few situations that come again and again, and labels may be drawn in each")
            continue
        if found.each_answered_anew:
            yield Skip("every input is there equally often, mostly with another label: actions that were tried in it")
            continue
        yield Claim(
            message=f"{found.conflicting} of {found.samples} training samples equal another in all {found.compared} "
            f"values compared and have another label; at least {found.fewest_conflicting} "
            f"({found.fewest_conflicting / found.samples:.1%}) of the labels must be wrong.",
            subject="labels of the training dataset",
            measured={
                "conflicting": found.conflicting,
                "fewest wrong": found.fewest_conflicting,
                "samples": found.samples,
                "copies": found.copies,
            },
            fix="Keep one label for each input, or give the net the field that tells these samples apart.",
            at=found.at,
        )
