"""LD523: a column of the inputs that holds the label, and columns that only tell much of it."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug.callbacks.data_auditor import DataAuditor
from tests.helpers import trainer

ROWS = 320


class Table(pl.LightningModule):
    """Fits labels of classes or amounts; ``taken`` columns are handed on."""

    def __init__(self, columns, units, taken=None):
        super().__init__()
        self.net, self.taken = nn.Sequential(nn.Linear(columns, 16), nn.ReLU(), nn.Linear(16, units)), taken
        self.register_buffer("mean", torch.zeros(columns))

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        outputs = self.net(inputs[:, : self.taken].float() - self.mean)
        if labels.is_floating_point():
            return F.mse_loss(outputs.squeeze(1), labels)
        return F.cross_entropy(outputs, labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def codes(inputs, labels, taken=None):
    columns = taken or inputs.shape[1]
    units = 1 if labels.is_floating_point() else int(labels.max()) + 1
    auditor = DataAuditor()
    data = DataLoader(TensorDataset(inputs, labels), 20, shuffle=True)
    trainer(auditor, max_epochs=2).fit(Table(columns, units, taken), data)
    found = [item for item in auditor.report.findings if item.code in ("LD523", "LD001", "LD002")]
    assert all((item.severity == "info") is labels.is_floating_point() for item in found)
    return [item.code for item in found]


def noise(columns=4, seed=0):
    return torch.randn(ROWS, columns, generator=torch.Generator().manual_seed(seed))


CLASSES, AMOUNTS = torch.arange(ROWS) * 7 % 3, noise(1, 1)[:, 0]
CODES = torch.tensor([4.0, -1.0, 2.5])
TOLD = {
    "the label itself": (CLASSES, CLASSES.float()),
    "other numbers for it": (CLASSES, CODES[CLASSES]),
    "a flag that is set afterwards": (CLASSES % 2, 1.0 - (CLASSES % 2)),
    "the amount itself": (AMOUNTS, AMOUNTS),
    "the amount in other units": (AMOUNTS, 1.8 * AMOUNTS + 32),
}
QUIET = {
    "a threshold": ((AMOUNTS > 0).long(), AMOUNTS),
    "most of the time": (CLASSES, CODES[torch.where(torch.arange(ROWS) == 17, 0, CLASSES)]),
    "two of three classes": (CLASSES, (CLASSES == 1).float()),
    "almost the amount": (AMOUNTS, AMOUNTS + 0.01 * noise(1, 2)[:, 0]),
    "one class only": (torch.zeros(ROWS, dtype=torch.long), torch.zeros(ROWS)),
    "a monotone function": (AMOUNTS, AMOUNTS.exp()),
}


@pytest.mark.parametrize("name", TOLD)
def test_told(name):
    labels, column = TOLD[name]
    assert codes(torch.column_stack([noise(), column]), labels) == ["LD523"]


@pytest.mark.parametrize("name", QUIET)
def test_what_tells_much_of_the_label_is_quiet(name):
    labels, column = QUIET[name]
    assert not codes(torch.column_stack([noise(), column]), labels)


def test_a_column_that_is_taken_out_before_the_first_layer_is_quiet():
    """The dataset hands on the whole row, and the module takes the label from it."""
    assert not codes(torch.column_stack([noise(), CLASSES.float()]), CLASSES, taken=4)


def test_windows_of_what_repeats_are_quiet():
    wave = torch.sin(2 * torch.pi * torch.arange(ROWS + 30) / 20)
    windows = torch.stack([wave[start : start + 24] for start in range(ROWS)])
    assert not codes(windows, wave[24 : 24 + ROWS])


class Embedded(pl.LightningModule):
    """Numbers stand beside embeddings, and the amounts are named."""

    def __init__(self):
        super().__init__()
        self.embedding, self.net = nn.Embedding(9, 4), nn.Linear(2 * 4 + 3, 3)

    def training_step(self, batch, batch_idx):
        inputs = torch.cat([self.embedding(batch["kinds"]).flatten(1), batch["numbers"]], 1)
        return F.cross_entropy(self.net(F.dropout(inputs, 0.2, self.training)), batch["label"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def test_one_of_several_fields():
    numbers = torch.column_stack([noise(2), CODES[CLASSES]])
    kinds = torch.randint(0, 9, (ROWS, 2), generator=torch.Generator().manual_seed(3))
    rows = [{"kinds": a, "numbers": b, "label": c} for a, b, c in zip(kinds, numbers, CLASSES, strict=True)]
    auditor = DataAuditor()
    trainer(auditor, max_epochs=1).fit(Embedded(), DataLoader(rows, 20, shuffle=True))
    (told,) = [item for item in auditor.report.findings if item.code == "LD523"]
    assert told.message.startswith("Column 2 of batch['numbers'] holds the label batch['label']")


class ByHand(Table):
    """A loss that no function of torch's makes; the last column is given to the net, or is the target."""

    def __init__(self, used):
        super().__init__(5 if used else 4, 1)
        self.used = used

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        side = 2.0 * (labels if self.used else inputs[:, 4].long()) - 1
        return torch.relu(1 - side * self.net(inputs if self.used else inputs[:, :4])[:, 0]).mean()


@pytest.mark.parametrize("used", [True, False])
def test_a_loss_by_hand(used):
    labels, auditor = CLASSES % 2, DataAuditor()
    data = TensorDataset(torch.column_stack([noise(), labels.float()]), labels)
    trainer(auditor, max_epochs=2).fit(ByHand(used), DataLoader(data, 20, shuffle=True))
    assert ("LD523" in [item.code for item in auditor.report.findings]) is used


def test_two_columns_are_no_table():
    assert not codes(torch.column_stack([noise(1), CLASSES.float()]), CLASSES)


def test_images_and_tokens_are_no_tables():
    image = torch.cat([noise(15), CLASSES[:, None].float()], 1).view(ROWS, 1, 4, 4)

    class Image(Table):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch[0].flatten(1)), batch[1])

    auditor = DataAuditor()
    data = DataLoader(TensorDataset(image, CLASSES), 20, shuffle=True)
    trainer(auditor, max_epochs=1).fit(Image(16, 3), data)
    assert "LD523" not in [item.code for item in auditor.report.findings]
