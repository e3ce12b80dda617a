"""DataAuditor: reads along, breaks nothing, leaves no trace."""

import copy
import io

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_debug import DataAuditor
from lightning_debug.callbacks import _data_part, data_auditor
from lightning_debug.callbacks._data_watch import StepWatch
from lightning_debug.evidence.data import DeliveredSamples, FieldValues
from lightning_debug.evidence.data_values import FirstLayerInput
from lightning_debug.probes.batch_roles import batch_roles
from tests.helpers import trainer
from tests.identity import PROGRAMS, differing

pytestmark = pytest.mark.filterwarnings("ignore")


class Tiny(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def training_step(self, batch, batch_idx):
        value = batch[0] if isinstance(batch, (tuple, list)) else batch
        value = value[0] if isinstance(value, (tuple, list)) else value
        return (
            self.net(value.reshape(-1, 3)).square().mean() if isinstance(value, torch.Tensor) else self.net.weight.sum()
        )

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.training_step(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(count=20, **options):
    return DataLoader(TensorDataset(torch.randn(count, 3), torch.arange(count) % 2), batch_size=8, **options)


class Recorder(_data_part.DataPart):
    seen: list = []

    def saw(self, stage, loader_index, epoch, batch_index, fields, size, *, audited, batch):
        self.seen.append((stage, loader_index, epoch, batch_index, size))


class Broken(_data_part.DataPart):
    def saw(self, *arguments, **named):
        raise ValueError("no idea")


def fit(model, *loaders, auditor=None, **options):
    auditor = auditor or DataAuditor()
    trainer(auditor, **options).fit(model, *loaders)
    return auditor


def test_every_batch_is_seen_once_and_the_hook_is_put_back(monkeypatch):
    monkeypatch.setattr(data_auditor, "PARTS_OF_DATA", (Recorder,))
    Recorder.seen = []
    model = Tiny()
    fit(model, loader(), [loader(8), loader(8)])
    train = [(epoch, index, size) for stage, _, epoch, index, size in Recorder.seen if stage == "train"]
    assert train == [(epoch, index, size) for epoch in (0, 1) for index, size in enumerate((8, 8, 4))]
    assert [item[:4] for item in Recorder.seen if item[0] == "validate"] == [
        ("validate", index, epoch, 0) for epoch in (0, 1) for index in (0, 1)
    ]
    assert "on_before_batch_transfer" not in vars(model)


def test_a_part_that_raises_is_told_and_left_out(monkeypatch):
    monkeypatch.setattr(data_auditor, "PARTS_OF_DATA", (Broken, Recorder))
    Recorder.seen = []
    auditor = fit(Tiny(), loader(64))
    assert [item.code for item in auditor.report.findings] == ["LD001"]
    assert len(Recorder.seen) == 16


class Owning(pl.LightningDataModule):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [item * 2 for item in batch]

    def train_dataloader(self):
        return loader()


def test_the_datamodule_that_owns_the_hook_keeps_it():
    model, data = Tiny(), Owning()
    auditor = DataAuditor()
    trainer(auditor, DataAuditor()).fit(model, datamodule=data)
    assert "on_before_batch_transfer" not in {**vars(model), **vars(data)}
    assert auditor.session.record.last(FieldValues).samples == 40


class Copying(Tiny):
    def on_train_epoch_end(self):
        other = copy.deepcopy(self)
        file = io.BytesIO()
        torch.save(other.net, file)
        assert other.on_before_batch_transfer([1], 0) == [1]


def test_the_module_can_be_copied_in_mid_run():
    fit(Copying(), loader())


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.randn(3), "cat" if index % 2 else "dog") for index in range(20)])


class Batches:
    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


ODD = {
    "stream": DataLoader(Stream(), batch_size=4),
    "list of batches": Batches(*[(torch.randn(4, 3), torch.zeros(4))] * 3),
    "empty": DataLoader(TensorDataset(torch.zeros(0, 3), torch.zeros(0)), batch_size=4),
    "no tensors": DataLoader([{"text": "a"}] * 8, batch_size=4),
    "ragged": DataLoader([torch.randn(1 + index % 3, 3) for index in range(8)], batch_size=4, collate_fn=list),
    "0-d": Batches(*[(torch.randn(4, 3), torch.tensor(1.0))] * 3),
    "one-hot": DataLoader(TensorDataset(torch.randn(8, 3), torch.eye(2)[torch.arange(8) % 2]), batch_size=4),
    "multi-hot": DataLoader(TensorDataset(torch.randn(8, 3), torch.ones(8, 2)), batch_size=4),
    "NaN": DataLoader(TensorDataset(torch.full((8, 3), torch.nan), torch.zeros(8)), batch_size=4),
    "bool": DataLoader(TensorDataset(torch.randn(8, 3), torch.rand(8) > 0.5), batch_size=4),
    "half": DataLoader(TensorDataset(torch.randn(8, 3).half().float(), torch.randn(8).half()), batch_size=4),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_batches_break_nothing(name):
    auditor = fit(Tiny(), ODD[name], ODD[name], max_epochs=1)
    assert not [item for item in auditor.report.findings if item.code in ("LD001", "LD002")]


class Raising(TensorDataset):
    def __getitem__(self, index):
        if index == 13:
            raise OSError("truncated file")
        return super().__getitem__(index)


def test_what_was_seen_before_a_dataset_raises_is_told():
    auditor = DataAuditor()
    data = DataLoader(Raising(torch.randn(20, 3), torch.zeros(20)), batch_size=4)
    with pytest.raises(OSError, match="truncated"):
        trainer(auditor).fit(Tiny(), data)
    assert auditor.session.record.last(FieldValues).samples == 12


def test_evidence_of_a_plain_run():
    auditor = fit(Tiny(), loader(), loader())
    record = auditor.session.record
    assert {item.field for item in record.of(FirstLayerInput)} == {"batch[0]"}
    seen = record.first(DeliveredSamples)
    assert (seen.delivered, seen.asked, seen.short) == (20, 20, 0)
    assert auditor.report.headlines == ()


@pytest.mark.parametrize("name", ["stateful", "two workers", "manual"])
def test_a_run_is_the_same_with_it(name, tmp_path):
    plain = PROGRAMS[name](tmp_path / "plain", [])
    watched = PROGRAMS[name](tmp_path / "watched", [DataAuditor()])
    assert not differing(plain, watched)


@pytest.mark.parametrize(("calls", "watched"), [(3, 8), (1500, 4)])
def test_long_steps_are_followed_less_often(calls, watched):
    class Repeated(pl.LightningModule):
        def training_step(self, batch, batch_idx):
            value = batch
            for _ in range(calls):
                value = value + 1
            return F.mse_loss(value, batch)

    module, seen = Repeated(), []
    watch = StepWatch(lambda evidence: None, lambda tell: tell())
    followed = watch._tell
    watch._tell = lambda trace, layers: (seen.append(trace.calls), followed(trace, layers))
    batch = torch.zeros(4, 1)
    for step in range(8):
        watch.train_batch(module, batch, index=step % 2, epoch=step // 2, known=batch_roles(batch))
        module.training_step(batch, step)
    assert len(seen) == watched
    assert all(calls <= count <= calls + 2 for count in seen)
