"""There is no memory left, on the device or on the host.

What it sees: who holds the memory: parameters, gradients and optimizer state by their sizes, and what a step keeps
    for its backward pass, measured on one sample and on two in isolation. From that follows the batch size that
    would fit. On a GPU it is told before the first step: what a few samples keep, times the batch, beside what is in
    use and the optimizer's state to come, is more than there is.
Why it hurts: the run ends. A batch half as large is a guess where the parts are not known.
How to fix: the batch size that the finding names, with accumulate_grad_batches to keep the effective one; a lower
    precision; an optimizer with less state where the model itself is too large.
When to ignore: never: the step has raised, or will: what is foretold is the least that is needed, and a step whose
    memory does not grow evenly with its samples, a compiled one, and the host are not foretold. Where no sample fits
    any more, the parts that could be measured are told.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            if len(inputs) > 16:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return F.cross_entropy(self.net(inputs), labels)

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            self.log("val_loss", F.cross_entropy(self.net(inputs), labels))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 12)
    labels = inputs[:, :3].argmax(dim=1)
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.errors import ErrorRaised, MemoryOwners
    >>> from lightning_debug.record import Record
    >>> memory = MemoryOwners(parameters=2**30, gradients=2**30, optimizer_expected=2**31, activations=2**35,
    ...                     per_sample=2**30,
    ...                       capacity=24 * 2**30, batch_size=32, requested=2**31)
    >>> error = ErrorRaised(error="OutOfMemoryError", message="CUDA out of memory.", phase="training_step",
    ...                     line="train.py:9",
    ...                     memory=memory)
    >>> for claim in out_of_memory(Record([error])):
    ...     print(claim.message)
    ...     print(claim.fix)
    there is no memory left at train.py:9 when 2.0 GiB more were asked for: parameters 1.0 GiB, gradients 1.0 GiB,
    optimizer state 2.0 GiB, activations 32.0 GiB with 32 samples in the batch.
    Use batch_size=16 (by the measured 1.0 GiB a sample, in 24.0 GiB), with accumulate_grad_batches=2 to keep the
    effective one.

References:
    https://pytorch.org/docs/stable/notes/faq.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.errors import ErrorRaised
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._errors import claims


@rule("LD108", severity=ERROR, needs=ErrorRaised)
def out_of_memory(record: Record) -> Iterator[Claim]:
    """Claims one finding for each exception that comes from this."""
    yield from claims(record, "LD108")
