"""The output of one sample depends on the other samples of its batch.

What it sees: before the third step, a batch of up to 13 samples runs in isolation, in eval mode, and again with one
    sample replaced by another. Values of a layer's output that change with either of two samples are made of both.
    It sees as well predictions that belong to one sample and are compared with the target of another.
Why it hurts: the model learns from neighbours that are there by chance. Its predictions change with the batch size
    and with the company a sample keeps, validation is not reproducible, and a single sample cannot be predicted.
How to fix: look at the line named. Usual causes: ``view`` or ``reshape`` where dimensions should change places
    (use ``transpose`` or ``permute``), a recurrent or attention layer without ``batch_first=True`` that is given
    (batch, time, features), softmax or a mean over dimension 0, and normalising by statistics of the whole batch.
When to ignore: when samples are meant to meet. It is silent on batch-norm in train mode, losses that compare
    samples (contrastive, in-batch negatives: only outputs count), pairs that ``roll``, ``flip`` or an index makes of
    whole samples for a loss without targets from the batch, noise that a matching deals to samples, mixup and other
    mixing at random in ``training_step``, several optimizers (minibatch discrimination), batches that no DataLoader
    puts together from single samples (graphs, episodes), and classes whose names say so (Graph, Set, Episode,
    Relation, Contrast …).
Broken:
    class Recurrent(LightningModule):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 24)
            self.head = nn.Linear(24, 2)

        def forward(self, inputs):
            return self.head(self.lstm(inputs)[0][:, -1])

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 10, 4)
    labels = (inputs[:, :, 0].mean(dim=1) > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Recurrent(), train, val)
Repaired:
    class Recurrent(LightningModule):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 24, batch_first=True)
            self.head = nn.Linear(24, 2)

        def forward(self, inputs):
            return self.head(self.lstm(inputs)[0][:, -1])

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 10, 4)
    labels = (inputs[:, :, 0].mean(dim=1) > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Recurrent(), train, val)

Example:
    >>> from lightning_debug.evidence.model import Place, SampleMixing
    >>> from lightning_debug.record import Record
    >>> lstm = Place(name="lstm", module="lstm", module_type="LSTM", line="train.py:8", shape=(13, 10, 24))
    >>> seen = SampleMixing(samples=13, judged=2, mixed=2, first=lstm, output=lstm, pair=(1, 2), share=0.85)
    >>> for claim in samples_mix(Record([seen])):
    ...     print(claim.subject, "|", claim.message)
    lstm | The output for one sample depends on the other samples of its batch, in eval mode too, from `lstm` (LSTM)
    at train.py:8 on: exchanging sample 1 of 13 and exchanging sample 2 both change the same 85% of the values that
    `lstm` (LSTM) of shape (13, 10, 24) gives.

References:
    https://karpathy.github.io/2019/04/25/recipe/ ("use backprop to chart dependencies")
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.model import SampleMixing
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._model import named, subject


@rule(
    "LD409",
    severity=ERROR,
    needs=SampleMixing,
    explains=("LD309", "LD413", "LD605", "LD702", "LD704", "LD705", "LD712"),
)
def samples_mix(record: Record) -> Iterator[Claim | Skip]:
    """Claims one finding: where samples meet first."""
    for seen in record.of(SampleMixing):
        if not (seen.mixed or seen.misaligned):
            continue
        if seen.declared:
            yield Skip(f"the name of {seen.declared} says that samples are meant to meet")
        elif seen.mixed and seen.paired:
            yield Skip(f"{seen.paired} pairs samples with others, for a loss that takes no target from the batch")
        elif seen.mixed and seen.dealt:
            yield Skip(f"{seen.dealt} deals rows to samples that no sample made, noise for example")
        elif seen.mixed:
            yield _mixing(seen)
        else:
            yield _misaligned(seen)
        return


def _mixing(seen: SampleMixing) -> Claim:
    first = seen.first if seen.first.name else seen.output
    one, two = seen.pair
    return Claim(
        message=f"The output for one sample depends on the other samples of its batch, in eval mode too, from "
        f"{named(first)} at {first.line} on: exchanging sample {one} of {seen.samples} and exchanging sample {two} "
        f"both change the same {seen.share:.0%} of the values that {named(seen.output)} of shape {seen.output.shape} "
        "gives.",
        subject=subject(first),
        measured={
            "samples": seen.samples,
            "replaced": seen.pair,
            "share_that_depends_on_both": seen.share,
            "first_call": first.name,
            "line": first.line,
            "outputs_that_mix": seen.mixed,
            "outputs_compared": seen.judged,
        },
        fix=_fix(first.name, first.module_type, first.dim, seen.batch_first),
        at=seen.at,
    )


def _fix(name: str, kind: str, dim: int | None, batch_first: bool) -> str:
    if name in _SEQUENTIAL or kind in _SEQUENTIAL:
        if batch_first:
            return (
                f"{kind} has batch_first=True: give it each sample's steps in a row of their own, with transpose or "
                "permute in place of the view or reshape before it."
            )
        return f"Give {kind} batch_first=True, or transpose its input to (time, batch, features)."
    if name in ("view", "reshape", "flatten", "unflatten"):
        return "Use transpose or permute where dimensions change places; view and reshape only regroup values."
    if name in ("softmax", "log_softmax", "mean", "sum", "max", "cumsum", "normalize", "std", "var") and dim == 0:
        return f"Let {name} work along another dimension than 0, which holds the samples."
    if name in ("sub", "div", "mul", "add", "mean", "std"):
        return "Normalise by statistics of the training set, of each sample (dims other than 0), or with a norm layer."
    if name == "linear":  # which takes each row by itself
        return (
            f"Look at what is given to {kind or name}, which takes each row by itself: a view or reshape has put "
            "values of several samples into one row. Bring the samples to dimension 0 first, with transpose or "
            "permute, or join parts along dim=1."
        )
    return "Keep dimension 0, which holds the samples, out of this operation."


_SEQUENTIAL = (
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward", "_transformer_encoder_layer_fwd"),
    *("LSTM", "GRU", "RNN", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"),
)
"""Calls and layers of torch that take time before the batch unless they are told otherwise."""


def _misaligned(seen: SampleMixing) -> Claim:
    call = seen.prediction
    return Claim(
        message=f"{call.name} compares predictions of one sample with targets of another: of those that follow the "
        f"{seen.samples} samples replaced in turn, {seen.misaligned:.1%} of all stand beside a foreign target.",
        subject=call.line or call.module,
        measured={"samples": seen.samples, "share_beside_a_foreign_target": seen.misaligned, "line": call.line},
        fix="Bring predictions and targets into one layout before the loss: transpose or permute where dimensions "
        "change places; view and reshape only regroup values.",
        at=seen.at,
    )
