"""A model that predicts the next step of a sequence sees that step.

What it sees: a field of the batch whose values one step later are what the loss is given as targets (at least 95 % of
    them). Before the third step, a batch runs in isolation, in eval mode, and again with the later part of every
    sequence taken from another sample. Predictions before that part must not change.
Why it hurts: the model copies the answer from its input. The loss falls to almost nothing, and what is generated
    step by step, where the answer is not there yet, is worthless.
How to fix: give attention a causal mask (``is_causal=True``, ``nn.Transformer.generate_square_subsequent_mask``), let
    recurrent layers run in one direction, pad convolutions on the left only, and shift inputs against targets.
When to ignore: when the later part is known when predicting. It is silent on targets that are not the next step
    (classification, tagging, masked language models, bidirectional encoders), where several layers read that field
    (an autoencoder of the sequence, cross-attention), and where the same tokens in another field do not leak.
Broken:
    class LanguageModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(12, 32)
            self.lstm = nn.LSTM(32, 32, batch_first=True, bidirectional=True)
            self.head = nn.Linear(64, 12)

        def _loss(self, tokens):
            scores = self.head(self.lstm(self.embedding(tokens[:, :-1]))[0])
            return F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())

        def training_step(self, batch, batch_idx):
            loss = self._loss(batch[0])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self._loss(batch[0]))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    start, stride = torch.randint(12, (640, 1)), torch.randint(1, 6, (640, 1))
    tokens = (start + stride * torch.arange(12)) % 12
    tokens = torch.where(torch.rand(640, 12) < 0.1, torch.randint(12, (640, 12)), tokens)
    train = DataLoader(TensorDataset(tokens[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(tokens[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(LanguageModel(), train, val)
Repaired:
    class LanguageModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(12, 32)
            self.lstm = nn.LSTM(32, 32, batch_first=True)
            self.head = nn.Linear(32, 12)

        def _loss(self, tokens):
            scores = self.head(self.lstm(self.embedding(tokens[:, :-1]))[0])
            return F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())

        def training_step(self, batch, batch_idx):
            loss = self._loss(batch[0])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self._loss(batch[0]))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    start, stride = torch.randint(12, (640, 1)), torch.randint(1, 6, (640, 1))
    tokens = (start + stride * torch.arange(12)) % 12
    tokens = torch.where(torch.rand(640, 12) < 0.1, torch.randint(12, (640, 12)), tokens)
    train = DataLoader(TensorDataset(tokens[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(tokens[512:]), batch_size=32)
    trainer = Trainer(max_epochs=4)
    trainer.fit(LanguageModel(), train, val)

Example:
    >>> from lightning_debug.evidence.model import FutureLeak, Place
    >>> from lightning_debug.record import Record
    >>> lstm = Place(name="lstm", module="lstm", module_type="LSTM", line="train.py:9")
    >>> seen = FutureLeak(field="batch[0]", function="cross_entropy", line="train.py:10", steps=11, cut=6,
    ...                   next_share=1.0, changed=0.97, after=1.0, change=0.4, first=lstm)
    >>> for claim in model_sees_the_future(Record([seen])):
    ...     print(claim.subject, "|", claim.message)
    lstm | The targets of cross_entropy are batch[0] one step later, yet replacing batch[0] from step 6 on changes 97%
    of the predictions before it, first in `lstm` (LSTM).

References:
    https://pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.model import FutureLeak
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import named, subject


@rule("LD410", severity=ERROR, needs=FutureLeak, explains=("LD506", "LD605", "LD702", "LD705", "LD712"))
def model_sees_the_future(record: Record) -> Iterator[Claim | Skip]:
    """Claims one finding: where a later step first has an influence."""
    for seen in record.of(FutureLeak):
        if not seen.changed:
            continue
        if seen.readings > 1:
            yield Skip(f"{seen.readings} layers read {seen.field}, and one of them may be free to see all of it")
            return
        where = f", first in {named(seen.first)}" if seen.first.name else ""
        yield Claim(
            message=f"The targets of {seen.function} are {seen.field} one step later, yet replacing {seen.field} from "
            f"step {seen.cut} on changes {seen.changed:.0%} of the predictions before it{where}.",
            subject=subject(seen.first) if seen.first.name else seen.line,
            measured={
                "targets_equal_to_the_next_step": seen.next_share,
                "replaced_from_step": seen.cut,
                "steps": seen.steps,
                "earlier_predictions_changed": seen.changed,
                "later_predictions_changed": seen.after,
                "largest_relative_change": seen.change,
            },
            fix=_fix(seen),
            at=seen.at,
        )
        return


def _fix(seen: FutureLeak) -> str:
    name, kind = seen.first.name, seen.first.module_type
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        return f"Make {kind} run in one direction (bidirectional=False)."
    if "conv" in name:
        return "Pad this convolution on the left only: F.pad(x, (dilation * (kernel_size - 1), 0)) and padding=0."
    if "attention" in name or name in ("softmax", "matmul", "bmm", "einsum") or "ttention" in kind:
        return "Give attention a causal mask: is_causal=True, or -inf above the diagonal of its scores."
    return "Let each step use earlier steps only: a causal mask, one direction, padding on the left."
