"""A batch holds NaN or infinite values, and they reach the loss.

What it sees: a step whose loss or gradient is not finite while a field of its batch holds NaN, +Inf or -Inf.
    The step is run again in isolation with those values replaced: only if loss and gradients are finite then,
    the field is named, with its rows, its columns and their share. Additive attention masks (-Inf and one other
    value) are never named. Where a validation has logged a loss that is not finite, the batches of the next
    validation are looked at likewise.
Why it hurts: one NaN in one cell makes the loss NaN, then every gradient, and after the next step every weight.
How to fix: find the rows named and repair them where the data is made: impute, drop, or mask before the values
    are used. ``torch.where(mask, loss, 0)`` does not mask: NaN times 0 is NaN in the backward pass; select
    ``pred[mask]`` and ``target[mask]`` instead.
When to ignore: never; a field whose NaN your loss really masks is not reported.
Broken:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            loss = F.mse_loss(self.net(batch["features"]), batch["target"])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    class Table(Dataset):
        def __init__(self):
            self.features = torch.randn(256, 6)
            self.target = self.features[:, :1] - 0.5 * self.features[:, 1:2] + 0.1 * torch.randn(256, 1)
            self.features[100, 3] = float("nan")  # a cell that was empty in the file

        def __len__(self):
            return len(self.features)

        def __getitem__(self, index):
            return {"features": self.features[index], "target": self.target[index]}

    loader = DataLoader(Table(), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=2)
    trainer.fit(Regressor(), loader)
Repaired:
    class Regressor(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))

        def training_step(self, batch, batch_idx):
            loss = F.mse_loss(self.net(batch["features"]), batch["target"])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    class Table(Dataset):
        def __init__(self):
            self.features = torch.randn(256, 6)
            self.target = self.features[:, :1] - 0.5 * self.features[:, 1:2] + 0.1 * torch.randn(256, 1)
            self.features[100, 3] = float("nan")
            mean = self.features.nanmean(0)
            self.features = torch.where(self.features.isnan(), mean, self.features)  # the column's mean

        def __len__(self):
            return len(self.features)

        def __getitem__(self, index):
            return {"features": self.features[index], "target": self.target[index]}

    loader = DataLoader(Table(), batch_size=32, shuffle=True)
    trainer = Trainer(max_epochs=2)
    trainer.fit(Regressor(), loader)

Example:
    >>> from lightning_debug.evidence.numbers import NonFiniteStep, NonFiniteTensor, StepWindow
    >>> from lightning_debug.record import Record
    >>> field = NonFiniteTensor(name="batch['x']", shape=(32, 6), numel=192, nan=1, rows=(4,), row_count=1)
    >>> step = NonFiniteStep(loss=float("nan"), fields=(field,), causes=("batch['x']",), proved=True)
    >>> [claim.subject for claim in nonfinite_input(Record([StepWindow(), step]))]
    ["batch['x']"]
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.numbers import NonFiniteStep, NonFiniteTensor, StepWindow
from lightning_debug.finding import ERROR, Claim
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._step_history import kind, replay


@rule("LD301", severity=ERROR, needs=StepWindow, explains=("LD302", "LD303", "LD304", "LD312"))
def nonfinite_input(record: Record) -> Iterator[Claim]:
    """Claims each batch field without whose bad values the step is finite."""
    for event in record.of(NonFiniteStep):
        for field in event.fields:
            if field.name in event.causes:
                yield _claim(event, field)


def _claim(event: NonFiniteStep, field: NonFiniteTensor) -> Claim:
    counts = {"NaN": field.nan, "+Inf": field.positive, "-Inf": field.negative}
    held = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    where = _where("row", field.rows, field.row_count)
    if len(field.shape) > 1 and field.column_count < field.shape[-1]:
        where += ", " + _where("column", field.columns, field.column_count)
    error = f"training_step raises {event.error.partition(':')[0]}" if event.error else ""
    outcome = f"the loss is {kind(event.loss)}" if kind(event.loss) != "not finite" else "the gradient is not finite"
    if event.at.stage == "validate":
        outcome = f"the validation loss is {kind(event.loss)}"
    both = "it is" if event.at.stage == "validate" else "loss and gradients are"
    proof = f"with finite values there, {both} finite" if event.proved else "the other batches at hand hold none"
    bad = field.nan + field.positive + field.negative
    if kind(event.loss) == "not finite" and not event.error:
        fix = "Select before computing, pred[mask] and target[mask]: torch.where lets NaN through backwards."
    elif field.nan and _whole_columns(field):
        fix = (
            "Look at what makes these columns: a column that never changes has deviation 0, and 0 / 0 is NaN. Divide "
            "by x.std(0) + 1e-8, or leave such columns out."
        )
    elif field.nan and _whole_samples(field):
        fix = (
            "Look at what makes these samples: a damaged file, or 0 / 0 where one is divided by its own deviation or "
            "peak, which is 0 if its values are all alike. Divide by x.std() + 1e-6, or leave such samples out."
        )
    elif field.nan:
        fix = "Repair these rows where the data is made: impute (the column's mean, nan_to_num), drop or mask them."
    else:
        fix = "Look for a division by 0 or a log of 0 where this field is made, and add a small number there."
    return Claim(
        message=f"{field.name} holds {held} among {field.numel} values ({where}), and {error or outcome}; {proof}.",
        subject=field.name,
        measured={
            "nan": field.nan,
            "positive_infinity": field.positive,
            "negative_infinity": field.negative,
            "share": bad / field.numel if field.numel else 0.0,
            "rows": list(field.rows),
            "row_count": field.row_count,
            "columns": list(field.columns),
            "shape": list(field.shape),
            "loss": event.loss,
            "proved_by_replacing": event.proved,
        },
        fix=fix + replay(event),
        at=event.at,
    )


def _whole_columns(field: NonFiniteTensor) -> bool:
    """Whether a few columns of a table are NaN in every row."""
    rows = field.shape[0] if len(field.shape) == 2 else 0
    return rows >= 4 and field.nan == rows * field.column_count and field.column_count < field.shape[-1]


def _whole_samples(field: NonFiniteTensor) -> bool:
    """Whether a few samples of several values each are NaN throughout."""
    rows = field.shape[0] if len(field.shape) > 1 else 0
    return 0 < field.row_count < rows and field.numel >= 8 * rows and field.nan == field.row_count * field.numel // rows


def _where(name: str, indices: tuple[int, ...], count: int) -> str:
    if not indices:
        return "a single value"
    more = f" and {count - len(indices)} more" if count > len(indices) else ""
    return f"{name}{'s' if count > 1 else ''} {', '.join(map(str, indices))}{more}"
