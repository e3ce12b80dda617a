"""An attribute keeps every step's value together with its graph.

What it sees: a list (or dict, or deque) among the model's attributes that holds tensors with their graphs and is larger
    at the first batch of each epoch, by at least ``share`` of the batches in between and ``min_growth`` tensors; or one
    tensor into which the steps' values are added with their graphs, and whose graph grows likewise.
Why it hurts: each value keeps the graph that made it, and what that graph still holds: memory grows with every step
    until it runs out, and every backward through a running sum takes longer.
How to fix: keep numbers: ``loss.detach()`` or ``loss.item()`` (that waits for the device), or ``self.log``. Clear
    lists of outputs at the end of the epoch.
When to ignore: never in a long run. It is silent on what is cleared every epoch, on caches of bounded size, on
    detached tensors, and on metrics that LD801 finds are not reset.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 2)
            self.losses = []

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.head(self.body(inputs)), labels)
            self.losses.append(loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

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
            self.losses = []

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.head(self.body(inputs)), labels)
            self.losses.append(loss.detach())
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.head(self.body(inputs))
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.optimization import KeptGraphs
    >>> from lightning_debug.record import Record
    >>> seen = KeptGraphs(path="self.losses", sizes=(1, 17, 33), epochs=(0, 1, 2), batches=(1, 17, 33))
    >>> [claim.subject for claim in memory_grows(Record([seen]))]
    ['self.losses']

References:
    https://pytorch.org/docs/stable/notes/faq.html (my model reports "cuda runtime error(2): out of memory")
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.metrics import MetricStates
from lightning_debug.evidence.optimization import KeptGraphs
from lightning_debug.finding import WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD609", severity=WARNING, needs=KeptGraphs)
def memory_grows(record: Record, *, share: float = 0.5, min_growth: int = 3) -> Iterator[Claim]:
    """Claims one finding for each attribute that grows with graphs."""
    claimed: set[str] = set()
    metrics = {item.owner for seen in record.of(MetricStates) for item in seen.carried if item.kind == "metric"}
    for evidence in reversed(record.of(KeptGraphs)):
        growth = [later - sooner for sooner, later in zip(evidence.sizes, evidence.sizes[1:], strict=False)]
        passed = [later - sooner for sooner, later in zip(evidence.batches, evidence.batches[1:], strict=False)]
        steady = all(new >= max(min_growth, share * steps) for new, steps in zip(growth, passed, strict=True))
        if evidence.path in claimed or not growth or not steady:
            continue
        if any(evidence.path == owner or evidence.path.startswith(f"{owner}.") for owner in metrics):
            continue  # a metric that is not reset, as LD801 says
        claimed.add(evidence.path)
        what = "tensors with their graphs" if evidence.kind == "list" else "terms with their graphs added up"
        yield Claim(
            message=f"`{evidence.path}` holds {evidence.sizes[-1]} {what} after {evidence.batches[-1]} batches, "
            f"{growth[-1]} more than {passed[-1]} batches before, and keeps every step's graph in memory.",
            subject=evidence.path,
            measured={"sizes": evidence.sizes, "batches": evidence.batches, "kind": evidence.kind},
            fix="Keep the number only: loss.detach(), or self.log(...).",
            at=evidence.at,
        )
