"""Dropout stays on in eval mode.

What it sees: one validation (or training) step is run once more in isolation with the whole model in eval mode,
    and a function of torch still drops values: ``F.dropout`` and its kin with ``training=True``, which is their
    default, ``F.scaled_dot_product_attention`` with a ``dropout_p`` that does not depend on ``self.training``, or a
    layer ``nn.Dropout`` that is made in ``forward``. It runs only where the model's code holds a call that does not
    depend on ``self.training`` as it is written, or makes such a layer.
Why it hurts: predictions are random and worse than the model's own, in validation, in test and in production;
    two runs on the same input differ.
How to fix: pass ``training=self.training``, and ``dropout_p=self.p if self.training else 0.0`` to attention, or
    use the layer ``nn.Dropout``, which obeys its mode.
When to ignore: for Monte Carlo dropout and other dropout that is meant to stay on. It is silent where a class or
    function around the call says so by name (MCDropout, monte_carlo, Bayesian, Prenet), in a subclass of
    ``nn.Dropout`` with a forward of its own, and on any other source of randomness.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 64)
            self.last = nn.Linear(64, 2)

        def forward(self, inputs):
            return self.last(F.dropout(F.relu(self.first(inputs)), 0.3))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self(inputs), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self(inputs)
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
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(8, 64)
            self.last = nn.Linear(64, 2)

        def forward(self, inputs):
            return self.last(F.dropout(F.relu(self.first(inputs)), 0.3, training=self.training))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            return F.cross_entropy(self(inputs), labels)

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self(inputs)
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
    >>> from lightning_debug.evidence.modes import DropoutCall, DropoutInEval
    >>> from lightning_debug.record import Record
    >>> call = DropoutCall(function="dropout", module="net", module_class="Net", line="train.py:12", probability=0.3)
    >>> for claim in dropout_ignores_mode(Record([DropoutInEval(step="validation_step", calls=(call,))])):
    ...     print(claim.subject, "|", claim.message)
    train.py:12 | `net` (Net) drops values with probability 0.3 in eval mode: the dropout at train.py:12 runs 1 time
    in one validation_step with every module in eval mode.

References:
    https://pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html (training=True by default)
    https://pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.modes import DropoutInEval
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD404", severity=ERROR, needs=DropoutInEval, explains=("LD212",))
def dropout_ignores_mode(record: Record) -> Iterator[Claim]:
    """Claims one finding for each line whose dropout ran in eval mode."""
    for evidence in record.of(DropoutInEval):
        for call in evidence.calls:
            if call.declared:
                continue
            attention = call.function == "scaled_dot_product_attention"
            argument = "dropout_p=p if self.training else 0.0" if attention else "training=self.training"
            place = f"`{call.module}` ({call.module_class})" if call.module else call.module_class or "the model"
            at = f" at {call.line}" if call.line else ""
            runs = f"the {call.function}{at} runs {call.calls} time{'s' * (call.calls > 1)} in one"
            fix = f"Pass {argument} to {call.function}{at}."
            if call.layer:
                runs = f"the nn.{call.layer}{at}, which the model does not hold, runs {call.calls} times in one"
                runs = runs.replace(" 1 times", " 1 time")
                fix = (
                    f"Make the nn.{call.layer} once, in __init__ (self.dropout = ...), and call self.dropout{at}: "
                    "eval() reaches the layers of the model only."
                )
            yield Claim(
                message=f"{place} drops values with probability {call.probability:g} in eval mode: {runs} "
                f"{evidence.step} with every module in eval mode.",
                subject=call.line or call.module or call.module_class,
                measured={"module": call.module, "probability": call.probability, "calls": call.calls},
                fix=fix,
                at=evidence.at,
            )
