"""Batches of nested tensors and of complex numbers: read where they can be, and left alone where they cannot."""

import json

import numpy
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lightning_debug import Debugger
from lightning_debug.evidence import encode
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.stated_intent import fields_of
from tests.data_programs import codes
from tests.helpers import alarms, debugged

OLDER = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
layouts = pytest.mark.parametrize("layout", [torch.jagged, torch.strided])


class Sets(pl.LightningModule):
    """Tells which of two coordinates is larger on the mean, from sets of unequal size."""

    def __init__(self):
        super().__init__()
        self.points, self.scores = nn.Sequential(nn.Linear(2, 32), nn.ReLU()), nn.Linear(32, 2)

    def forward(self, sets):
        return self.scores(torch.stack([self.points(item).mean(0) for item in sets.unbind()]))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]), batch_size=len(batch[1]))

    def transfer_batch_to_device(self, batch, device, index):
        return batch

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def sets(count, layout):
    rows = []
    for _ in range(count):
        label = int(torch.randint(0, 2, ()))
        shift = torch.tensor([1.0 - label, label])
        rows.append((torch.randn(int(torch.randint(4, 9, ())), 2) * 0.7 + shift, torch.tensor(label)))

    def collate(items):
        return torch.nested.nested_tensor([item for item, _ in items], layout=layout), torch.stack(
            [y for _, y in items]
        )

    return DataLoader(rows, 20, shuffle=count > 100, collate_fn=collate)


@OLDER
@layouts
def test_nested_batches_are_told_nothing_and_the_report_is_written(layout, tmp_path):
    pl.seed_everything(0, verbose=False)
    debugger = Debugger(strict=True, console=False, report_dir=str(tmp_path))
    report = debugged(Sets(), sets(320, layout), sets(100, layout), debugger=debugger, max_epochs=4)
    assert not alarms(report)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["record"]["evidence"]


@OLDER
@layouts
def test_evidence_of_nested_batches_is_plain(layout):
    batch = next(iter(sets(40, layout)))
    assert [name for name, _ in batch_fields(batch)] == (["batch[0]", "batch[1]"][layout is torch.strided :])
    assert all(json.dumps([encode(item) if hasattr(item, "at") else item.shape]) for item in fields_of(batch))


class Signals(Dataset):
    """Complex samples that a random phase turns, beside labels: the labels alone are no samples."""

    def __init__(self, count, seed, dtype):
        generator = numpy.random.Generator(numpy.random.PCG64(seed))
        self.labels = generator.integers(0, 4, count)
        noise = generator.normal(size=(count, 16)) + 1j * generator.normal(size=(count, 16))
        self.signals = (noise + self.labels[:, None]).astype(dtype)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        turned = torch.polar(torch.ones(()), 6 * torch.rand(()))
        return torch.from_numpy(self.signals[index]).to(torch.complex64) * turned, self.labels[index]


class Hidden(Signals):
    """Values in a form that is not read, two of each sample: the labels alone are no samples here either."""

    def __init__(self, count, seed, dtype):
        super().__init__(count, seed, dtype)
        self.held, self.signals = [(complex(row[0]), "name") for row in self.signals], None

    def __getitem__(self, index):
        value = self.held[index][0]
        return torch.tensor([value.real, value.imag]) + 0.01 * torch.randn(2), self.labels[index]


@pytest.mark.parametrize("kind", [Signals, Hidden])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_labels_that_are_all_that_can_be_read_are_no_samples(kind, dtype):
    train, validation = DataLoader(kind(400, 0, dtype), 20, shuffle=True), DataLoader(kind(120, 1, dtype), 20)
    assert not {"LD507", "LD510", "LD520"} & set(codes(train, validation))


class Once(Dataset):
    """One sample, as often as it is asked; with ``others`` it keeps more than it gives."""

    def __init__(self, others=None):
        self.sample = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
        if others is not None:
            self.others = others

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return self.sample


class Fill(pl.LightningModule):
    """A deep image prior: fits one picture from one fixed input."""

    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 3, 3, padding=1)

    def training_step(self, batch, index):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


@pytest.mark.parametrize(("others", "told"), [(None, False), ([0] * 60, True), ({"files": ["name"] * 60}, True)])
def test_one_sample_that_is_given_again_and_again(others, told):
    pl.seed_everything(0, verbose=False)
    report = debugged(Fill(), DataLoader(Once(others), 1))
    assert ("LD509" in [item.code for item in report.findings]) is told
