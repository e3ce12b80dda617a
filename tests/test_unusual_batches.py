"""Batches of nested tensors of either layout: read where they can be, and left alone where they cannot."""

import json

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_debug import Debugger
from lightning_debug.evidence import encode
from lightning_debug.probes.batch_fields import batch_fields
from lightning_debug.probes.stated_intent import fields_of
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
