"""Batches that leave their loader on a device: read later, without waiting, and with the same outcome."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_debug import DataAuditor
from lightning_debug.callbacks import _data_run
from lightning_debug.evidence.data import FieldValues, LabelCounts
from lightning_debug.evidence.data_relations import EpochOrders, SampleCopies, SampleOrder, SharedSamples
from lightning_debug.probes import deferred_batches
from lightning_debug.probes.batch_roles import Field
from tests.helpers import trainer
from tests.test_data_auditor import Tiny

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = FieldValues, LabelCounts, SampleOrder, SampleCopies, SharedSamples, EpochOrders


def evidence():
    torch.manual_seed(0)
    inputs, labels = torch.randn(200, 3), torch.arange(200) % 2
    train = DataLoader(TensorDataset(inputs, labels), 4, generator=torch.Generator().manual_seed(1), shuffle=True)
    auditor = DataAuditor()
    trainer(auditor).fit(Tiny(), train, DataLoader(TensorDataset(inputs[:40], labels[:40]), 4))
    return [(kind, [repr(item).partition("at=")[0] for item in auditor.session.record.of(kind)]) for kind in KINDS]


def test_a_slow_device_changes_nothing_of_what_is_seen(monkeypatch):
    plain = evidence()
    late = []

    class Late(deferred_batches.HostCopies):
        def __init__(self):
            super().__init__(delay=3)

        def arrived(self):
            late.append(len(self))
            return super().arrived()

    monkeypatch.setattr(_data_run, "HostCopies", Late)
    for module in (_data_run, deferred_batches):
        monkeypatch.setattr(module, "on_device", lambda tensor: True)
    assert evidence() == plain
    assert max(late) == 4  # what is judged was indeed three batches behind


def test_only_what_tells_samples_apart_is_copied_of_large_ones(monkeypatch):
    monkeypatch.setattr(deferred_batches, "on_device", lambda tensor: True)
    copies = deferred_batches.HostCopies()
    large = Field("batch[0]", torch.randn(4, 3, 50, 50), "input", "image")
    copies.put("few", [large], whole=False)
    copies.put("all", [large], whole=True)
    few, everything = (fields[0].tensor for _, fields in copies.arrived())
    assert few.numel() <= 4 * 1024
    assert torch.equal(everything, large.tensor)
    copies.put("forgotten", [large], whole=True)
    copies.drop()
    assert not copies.wait()


def test_a_structure_that_changes_is_not_read_for_its_roles_after_the_first_batches(monkeypatch):
    monkeypatch.setattr(_data_run, "on_device", lambda tensor: True)
    monkeypatch.setattr(_data_run, "FIRST", 2)
    asked = []
    roles = _data_run.batch_roles
    monkeypatch.setattr(_data_run, "batch_roles", lambda batch, **named: asked.append(1) or roles(batch, **named))
    batches = [(torch.randn(4, 3), *[torch.zeros(4)] * (1 + index % 2)) for index in range(8)]
    trainer(DataAuditor(), max_epochs=1).fit(Tiny(), DataLoader(batches, batch_size=None))
    assert len(asked) == 2
