"""Batches that hold fewer samples than were asked for, and what ``drop_last`` leaves out."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

from lightning_debug import DataAuditor
from lightning_debug.evidence.data import DeliveredSamples, FieldValues
from lightning_debug.finding import Claim, Severity
from lightning_debug.probes.batch_roles import batch_roles
from lightning_debug.probes.data_counts import RowCounts
from lightning_debug.record import Record
from lightning_debug.registry import get
from tests.helpers import pl, trainer


def claims(code, *evidence):
    return [item.message for item in get(code).function(Record(evidence)) if isinstance(item, Claim)]


def rows(batches, batch_size=8, samples=32, **options):
    counter = RowCounts(batch_size, samples, **options)
    for batch in batches:
        fields = batch_roles(batch)
        counter.add(batch, fields, fields[0].size)
    return counter.evidence("train", 0, samples, "collate")


def test_lost_samples():
    def batch(count, labels=None):
        return torch.randn(count, 3), torch.zeros(count if labels is None else labels).long()

    assert claims("LD518", rows([batch(6)] * 4))
    assert claims("LD518", rows([batch(8, 1)] * 4))
    assert claims("LD518", rows([(torch.randn(8, 3, 9, 9), torch.zeros(4))] * 4))
    assert not claims("LD518", rows([batch(8)] * 4))
    assert not claims("LD518", rows([batch(8)] * 3 + [batch(4)], samples=28))
    assert not claims("LD518", rows([batch(16)] * 4))  # two views each
    assert not claims("LD518", rows([(torch.randn(5, 8, 3), torch.zeros(8))] * 4))  # time first
    assert not claims("LD518", rows([([torch.randn(2, 3)] * 8, torch.zeros(8))] * 4))  # ragged
    assert not claims("LD518", DeliveredSamples(stage="train", delivered=20))


@pytest.mark.parametrize(("labels", "said"), [((6,), 1), ((6, 12), 0), (None, 0), ((4,), 0)])
def test_texts_that_are_lost(labels, said):
    tokens = torch.randint(1, 50, (4 if labels == (4,) else 6, 12))  # or four pairs of eight texts
    batch = tokens if labels is None else (tokens, torch.zeros(labels).long())
    seen = rows([batch] * 4)
    texts = FieldValues(stage="train", field=seen.field, role="tokens")
    assert len(claims("LD518", texts, seen)) == said  # without a label a row may be packed of several texts


def test_samples_that_are_dropped_for_being_none_are_a_note():
    seen = rows([(torch.randn(6, 3), torch.zeros(6).long())] * 4)
    assert [item.severity for item in get("LD518").function(Record([seen]))] == [None]
    (note,) = get("LD518").function(Record([replace(seen, drops_none=True)]))
    assert note.severity is Severity.INFO
    assert "when the dataset is made" in note.fix


@pytest.mark.parametrize("drops", [True, False])
def test_a_collate_function_that_drops_none_is_known(drops):
    class Rows(TensorDataset):
        def __getitem__(self, index):
            return None if drops and index % 8 == 3 else super().__getitem__(index)

    def whole(items):
        return default_collate([item for item in items if item is not None])

    def part(items):
        return default_collate(items[1:])

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(3, 2)

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    auditor = DataAuditor()
    loader = DataLoader(
        Rows(torch.randn(64, 3), torch.randint(2, (64,))), 16, collate_fn=whole if drops else part, shuffle=True
    )
    trainer(auditor, max_epochs=1).fit(Net(), loader)
    (found,) = [item for item in auditor.report.findings if item.code == "LD518"]
    assert found.severity is (Severity.INFO if drops else Severity.WARNING)


class Flat(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.LazyLinear(4)
        self.net(torch.zeros(1, 64))

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.binary_cross_entropy_with_logits(self.net(batch[0].flatten(1)[:, :64]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def mosaics(items):
    """Four pictures in one, with the labels of all."""
    pictures, labels = default_collate(items[: len(items) // 4 * 4])
    rows = pictures.unflatten(0, (-1, 4))
    top, low = torch.cat([rows[:, 0], rows[:, 1]], -1), torch.cat([rows[:, 2], rows[:, 3]], -1)
    return torch.cat([top, low], -2), labels.unflatten(0, (-1, 4)).amax(1)


def every_fourth(items):
    return default_collate(items[::4])


@pytest.mark.parametrize(("collate", "said"), [(mosaics, False), (every_fourth, True)])
def test_several_samples_in_one_row_are_not_lost(collate, said):
    data = TensorDataset(torch.randn(99, 1, 8, 8), (torch.rand(99, 4) < 0.3).float())
    auditor = DataAuditor()
    trainer(auditor, max_epochs=1).fit(Flat(), DataLoader(data, 40, shuffle=True, collate_fn=collate))
    assert ("LD518" in [item.code for item in auditor.report.findings]) is said


def test_what_drop_last_leaves_out_is_a_note():
    def dropped(samples, batches):
        full = torch.randn(8, 3), torch.zeros(8).long()
        return list(get("LD518").function(Record([rows([full] * batches, samples=samples, drop_last=True)])))

    (note,) = dropped(39, 4)
    assert note.severity is Severity.INFO
    assert "7 of 39 samples" in note.message
    assert not dropped(34, 4)  # a twentieth
    assert not dropped(39, 3)  # an epoch that was cut short
