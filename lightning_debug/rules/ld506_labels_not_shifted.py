"""A language model is trained to predict a token that it already sees, or one too far ahead.

What it sees: the step is run again with one token of each sequence changed: the first output that changes shows which
    tokens outputs see. The targets that reach the loss are compared with the tokens: an output must be compared with
    the next token after the last one that it sees. Claimed is a target that the output sees already (no shift, or a
    shift the wrong way), and one two tokens ahead (shifted twice), where at least ``matched`` of the targets are the
    tokens at that offset.
Why it hurts: a model that sees its answer learns to copy: the loss falls to 0 within minutes, and generated text is
    one token over and over. A model shifted twice learns to leave out every other token.
How to fix: compare ``logits[:, :-1]`` with ``tokens[:, 1:]``, once: either the dataset or the step shifts, never
    both. Hugging Face models shift labels themselves: give them ``labels=input_ids``.
When to ignore: when the task is to repeat or to skip tokens. Silent on nets that see the whole sequence (masked
    language models), on decoders that begin with a start token, on models that shift inside, and on targets that are
    no tokens of the input.
Broken:
    class CharacterModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(12, 16)
            self.rnn = nn.GRU(16, 32, batch_first=True)
            self.head = nn.Linear(32, 12)

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            logits = self.head(self.rnn(self.embedding(inputs))[0])
            loss = F.cross_entropy(logits.reshape(-1, 12), targets.reshape(-1))
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    steps = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 256 * 25, replacement=True).view(256, 25)
    text = (torch.randint(0, 12, (256, 1)) + steps.cumsum(1)) % 12
    loader = DataLoader(TensorDataset(text, text), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=2)
    trainer.fit(CharacterModel(), loader)
Repaired:
    class CharacterModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(12, 16)
            self.rnn = nn.GRU(16, 32, batch_first=True)
            self.head = nn.Linear(32, 12)

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            logits = self.head(self.rnn(self.embedding(inputs))[0])
            loss = F.cross_entropy(logits.reshape(-1, 12), targets.reshape(-1))
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    steps = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 256 * 25, replacement=True).view(256, 25)
    text = (torch.randint(0, 12, (256, 1)) + steps.cumsum(1)) % 12
    loader = DataLoader(TensorDataset(text[:, :-1], text[:, 1:]), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=2)
    trainer.fit(CharacterModel(), loader)

Example:
    >>> from lightning_debug.evidence.data_relations import TargetOffset
    >>> from lightning_debug.record import Record
    >>> found = TargetOffset(offset=0, target_offset=0, field="batch[0]", line="train.py:12", matched=1.0,
    ...                      positions=100)
    >>> [claim.subject for claim in labels_not_shifted(Record([found]))]
    ['train.py:12']
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_relations import TargetOffset
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD506", severity=ERROR, needs=TargetOffset)
def labels_not_shifted(record: Record, *, matched: float = 0.98) -> Iterator[Claim | Skip]:
    """Claims one finding if the offset is one of those that no language model is meant to have."""
    found = record.last(TargetOffset)
    if found is None or found.matched < matched or found.offset == 1:
        return
    if found.offset not in (-1, 0, 2):
        yield Skip(f"targets lie {found.offset} tokens after what an output sees, which is no usual mistake")
        return
    if found.offset == 2:
        what = "the token after the next one: targets are shifted twice"
        fix = "Shift once: leave out the shift in the dataset, or the one in the step or the model."
    elif found.offset == 0:
        what = "the very token that it sees last: targets are not shifted"
        fix = "Compare logits[:, :-1] with tokens[:, 1:], or let the dataset return tokens[:-1], tokens[1:]."
    else:
        what = "the token before the last one that it sees: targets are shifted the wrong way"
        fix = "Turn the shift around: compare logits[:, :-1] with tokens[:, 1:]."
    yield Claim(
        message=f"Each output is trained to predict {what} (offset {found.offset} where the next token is 1; "
        f"{found.matched:.0%} of {found.positions} targets).",
        subject=found.line or "training_step",
        measured={
            "offset": found.offset,
            "target_offset": found.target_offset,
            "seen_offset": found.seen_offset,
            "matched": found.matched,
            "positions": found.positions,
            "tokens": found.field,
        },
        fix=fix,
        at=found.at,
    )
