"""A column of the inputs holds the label.

What it sees: among the first samples of a table, of at least 3 columns with all other inputs, a column that has one
    value for each class and another for each other class, or that is a multiple of the target (moved by a constant);
    and outputs that change when, in isolation, that column changes places among the samples of a batch. A multiple is
    only noted, since targets that were generated are often just that. Of windows of a series: a last step that holds
    the label in one of these ways, where another window shows that the series goes on with another value. Of rows of
    tokens: a last token that is the label in every row.
Why it hurts: the net copies the column, scores are near perfect in training and in validation, and nothing is left of
    them where the label is not known yet. This is what a status that is set after the event, a target that was encoded
    twice, or a frame whose label column was not dropped leaves behind.
How to fix: drop the column (`features = frame.drop(columns=[target, ...])`), and ask of each column whether its
    value is known when the prediction is to be made. Of a window `series[start : start + length]` the next value is
    `series[start + length]`, not `[start + length - 1]`.
When to ignore: when the task is to copy. Silent on images, on other tokens and on sequences that are no windows, on
    columns that tell the label by a threshold or only mostly, on a column that the module takes out, where other
    columns are copies of one another or windows come again, as in what repeats, and where no net is there to be asked,
    as in an audit.
Broken:
    class Churn(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    features = torch.randn(800, 5)
    labels = (features @ torch.randn(5) + torch.randn(800) > 0).long()
    closed = 2.0 * labels[:, None] - 1  # the account is closed after the customer has left
    table = torch.cat([features, closed], dim=1)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Churn(), DataLoader(TensorDataset(table, labels), batch_size=32, shuffle=True))
Repaired:
    class Churn(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    features = torch.randn(800, 5)
    labels = (features @ torch.randn(5) + torch.randn(800) > 0).long()
    trainer = Trainer(max_epochs=3)
    trainer.fit(Churn(), DataLoader(TensorDataset(features, labels), batch_size=32, shuffle=True))

Example:
    >>> from lightning_debug.evidence.data_values import LabelColumns
    >>> from lightning_debug.record import Record
    >>> seen = LabelColumns(samples=800, inputs="batch[0]", columns=6, column=5, holding=1, used=True, field="batch[1]")
    >>> [claim.message for claim in label_among_inputs(Record([seen]))]
    ['Column 5 of batch[0] holds the label batch[1]: in 800 samples it has one value for each class.']

References:
    Kaufman et al., Leakage in data mining (2012), section 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.data_values import LabelColumns
from lightning_debug.finding import INFO, WARNING, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD523", severity=WARNING, needs=LabelColumns)
def label_among_inputs(record: Record) -> Iterator[Claim]:
    """Claims one finding for the first such column."""
    seen = record.last(LabelColumns)
    if seen is None or not seen.used:
        return
    if seen.step >= 0:
        yield _of_windows(seen) if seen.followed else _of_tokens(seen)
        return
    others = f" (and {seen.holding - 1} more)" if seen.holding > 1 else ""
    how = "it has one value for each class" if seen.kind == "classes" else "it is a multiple of it, moved by a constant"
    yield Claim(
        message=f"Column {seen.column} of {seen.inputs}{others} holds the label {seen.field}: in {seen.samples} "
        f"samples {how}.",
        subject=seen.inputs,
        measured={"column": seen.column, "columns": seen.columns, "holding": seen.holding, "samples": seen.samples},
        fix=f"Leave column {seen.column} out of the inputs, unless it is known when the prediction is to be made.",
        at=seen.at,
        severity=INFO if seen.kind == "amounts" else None,  # generated targets are often just that
    )


def _of_tokens(seen: LabelColumns) -> Claim:
    return Claim(
        message=f"The last token of {seen.inputs} (place {seen.step}) is the label {seen.field} in all of "
        f"{seen.samples} samples.",
        subject=seen.inputs,
        measured={"step": seen.step, "samples": seen.samples},
        fix="Leave what is to be predicted out of the inputs: row[:-1] is the sequence, row[-1] the target.",
        at=seen.at,
    )


def _of_windows(seen: LabelColumns) -> Claim:
    place = f"step {seen.step}" + (f", channel {seen.channel}" if seen.channel >= 0 else "")
    series = f"series[start + {seen.step + 1}" + (f", {seen.channel}]" if seen.channel >= 0 else "]")
    return Claim(
        message=f"The last step of {seen.inputs} ({place}) holds the label {seen.field} in all of {seen.samples} "
        f"windows, and the series goes on with another value in {seen.otherwise} of the {seen.followed} that another "
        "window continues.",
        subject=seen.inputs,
        measured={
            "step": seen.step,
            "channel": seen.channel,
            "samples": seen.samples,
            "followed": seen.followed,
            "followed_by_another": seen.otherwise,
        },
        fix=f"Take the label from beyond the window: {series} is the first value after the inputs "
        f"series[start : start + {seen.step + 1}]; or leave the last step out of the inputs.",
        at=seen.at,
    )
