"""DataAuditor(scan="full"): the whole data before training, without a trace; samples that raise are named."""

import random

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lightning_debug import DataAuditor
from lightning_debug.callbacks import _data_scan
from lightning_debug.callbacks._data_part import Source
from lightning_debug.evidence.data import LabelCounts, ScannedData, UnreadableSample
from lightning_debug.evidence.data_relations import LabelLearning, SharedSamples
from lightning_debug.registry import get
from tests.data_programs import make
from tests.helpers import run_program, trainer
from tests.identity import PROGRAMS, differing
from tests.test_data_auditor import Batches, Tiny

pytestmark = pytest.mark.filterwarnings("ignore")


class Columns(Dataset):
    """Counts what it was asked for; a sample may raise."""

    def __init__(self, inputs, labels, bad=None):
        self.data, self.bad, self.asked = (inputs, labels), bad, 0

    def __len__(self):
        return len(self.data[0])

    def __getitem__(self, index):
        self.asked += 1
        if index == self.bad:
            raise ValueError("a corrupt file")
        numpy.random.rand(), random.random(), torch.rand(1)  # an augmentation draws
        return tuple(column[index] for column in self.data)


def data(count=60, bad=None, first=0):
    inputs, labels = make("tabular", 200)
    return Columns(inputs[first : first + count, :3], labels[first : first + count], bad)


def fit(train, validation=None, auditor=None, **options):
    auditor = auditor or DataAuditor(scan="full")
    loaders = [item if item is None else DataLoader(item, 8, shuffle=item is train) for item in (train, validation)]
    trainer(auditor, max_epochs=1, **options).fit(Tiny(), *loaders)
    return auditor


def scanned(auditor):
    return {(item.stage, item.read, item.outcome) for item in auditor.session.record.of(ScannedData)}


def test_everything_is_read_before_the_first_step():
    train, validation = data(), data(40, first=40)
    auditor = fit(train, validation, limit_train_batches=1, limit_val_batches=1)
    record = auditor.session.record
    assert scanned(auditor) == {("train", 60, "complete"), ("validate", 40, "complete")}
    assert (record.first(SharedSamples).shared, record.first(SharedSamples).at.step) == (20, 0)
    assert sum(record.first(LabelCounts).counts) == 60
    assert train.asked == 8  # in this process; workers read the rest
    assert [item.code for item in auditor.report.headlines] == ["LD510"]
    assert not record.of(LabelLearning)


@pytest.mark.parametrize("name", ["stateful", "manual"])
def test_a_run_is_the_same_with_it(name, tmp_path):
    plain = PROGRAMS[name](tmp_path / "plain", [])
    watched = PROGRAMS[name](tmp_path / "watched", [DataAuditor(scan="full")])
    assert not differing(plain, watched)


def test_what_a_sample_raises_is_folded_under_it(tmp_path):
    report, raised = run_program(get("LD521").page["Broken"], tmp_path)
    assert isinstance(raised, RuntimeError)
    assert [item.code for item in report.headlines] == ["LD521"]


def test_a_sample_that_raises_is_named_before_training():
    auditor = DataAuditor(scan="full")
    with pytest.raises(ValueError, match="corrupt"):
        fit(data(bad=37), data(40, first=100), auditor)
    seen = auditor.session.record.first(UnreadableSample)
    assert (seen.stage, seen.index, seen.error, seen.message, seen.at.step) == ("train", 37, "ValueError", "a corrupt file", 0)  # fmt: skip
    assert auditor.report.headlines[0].code == "LD521"
    assert ("validate", 40, "complete") in scanned(auditor)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stage", ["train", "validate"])
def test_a_sample_that_raises_in_training_is_named(workers, stage):
    train, validation = data(bad=37 if stage == "train" else None), data(40, 17 if stage == "validate" else None, 100)
    loaders = [DataLoader(one, 8, num_workers=workers) for one in (Subset(train, range(10, 60)), validation)]
    auditor = DataAuditor()
    with pytest.raises(ValueError, match="corrupt"):
        trainer(auditor, max_epochs=1, num_sanity_val_steps=0).fit(Tiny(), *loaders)
    finding = auditor.report.headlines[0]
    index, name = (27, "training") if stage == "train" else (17, "validation")
    assert finding.message.startswith(f"Sample {index} of the {name} dataset raises ValueError: a corrupt file (")


def test_rows_that_are_looked_up_by_name_are_told_from_a_bad_one():
    class Named(Columns):
        def __getitem__(self, index):
            return {number: row for number, row in enumerate(zip(*self.data, strict=True)) if number % 2}[index]

    train = data()
    auditor = DataAuditor()
    with pytest.raises(KeyError):
        trainer(auditor, max_epochs=1).fit(Tiny(), DataLoader(Named(*train.data), 8))
    assert "positions 0 to" in auditor.report.headlines[0].fix


def test_a_bad_row_is_to_be_looked_at():
    auditor = DataAuditor()
    with pytest.raises(ValueError, match="corrupt"):
        trainer(auditor, max_epochs=1).fit(Tiny(), DataLoader(data(bad=17), 8))
    assert auditor.report.headlines[0].fix.startswith("Look at Columns[17]: repair it")


class Streamed(IterableDataset):
    def __init__(self, count, bad=10**9):
        self.count, self.bad = count, bad

    def __iter__(self):
        for index in range(self.count):
            if index == self.bad:
                raise OSError("no such shard")
            yield torch.full((3,), float(index)), index % 2


def test_a_stream_that_raises_is_told_with_what_came_before():
    auditor = DataAuditor()
    with pytest.raises(OSError, match="shard"):
        trainer(auditor, max_epochs=1).fit(Tiny(), DataLoader(Streamed(40, 19), 4))
    finding = auditor.report.headlines[0]
    assert (finding.code, finding.measured["delivered"]) == ("LD521", 12)  # the one after that was read ahead


def test_what_the_model_raises_is_no_fault_of_a_sample():
    class Wrong(Tiny):
        def training_step(self, batch, batch_idx):
            raise ValueError("mine")

    auditor = DataAuditor()
    with pytest.raises(ValueError, match="mine"):
        trainer(auditor).fit(Wrong(), DataLoader(TensorDataset(torch.randn(8, 3)), 4))
    assert not auditor.session.record.of(UnreadableSample)


def test_samples_that_cannot_be_collated_are_no_unreadable_ones():
    auditor = DataAuditor()
    with pytest.raises(RuntimeError, match="stack"):
        trainer(auditor).fit(Tiny(), DataLoader([torch.zeros(2), torch.zeros(3)], 2))
    assert not auditor.session.record.of(UnreadableSample)


def test_an_interrupt_tells_what_was_read_and_ends_the_fit(monkeypatch, capsys):
    shown = _data_scan._shown

    def interrupted(loader, stage, total, *, bar):
        for number, batch in enumerate(shown(loader, stage, total, bar=bar)):
            if (stage, number) == ("validate", 2):
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(_data_scan, "_shown", interrupted)
    auditor = DataAuditor(scan="full")
    with pytest.raises(SystemExit):
        fit(data(), data(40, first=40), auditor)
    assert auditor.report.status == "interrupted"
    assert scanned(auditor) == {("train", 60, "complete"), ("validate", 16, "interrupted")}
    assert [item.code for item in auditor.report.headlines] == ["LD510"]
    assert "interrupted; the report tells of the 76 samples read by then" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["stream", "batches", "empty"])
def test_what_cannot_be_scanned_is_said(given):
    auditor = DataAuditor(scan="full")
    loader = {
        "stream": lambda: DataLoader(Streamed(20), 4),
        "batches": lambda: Batches(*[(torch.randn(4, 3), torch.zeros(4))] * 3),
        "empty": lambda: DataLoader([], 4),
    }[given]()
    trainer(auditor, max_epochs=1).fit(Tiny(), loader)
    assert not [item for item in auditor.report.findings if item.code < "LD1"]
    assert all("only yields" in item.outcome for item in auditor.session.record.of(ScannedData))


def test_the_loader_is_like_the_live_one():
    class Pairs:
        def __init__(self):
            self.drawn = 0

        def __iter__(self):
            self.drawn += 1
            return iter([[0, 1], [4, 5]])

        def __len__(self):
            return 2

    live = DataLoader(
        TensorDataset(torch.arange(6.0)), batch_sampler=Pairs(), collate_fn=lambda rows: [row[0].item() for row in rows]
    )
    loader, recorded = _data_scan.private_loader(Source("train", 0, live))
    assert list(loader) == [[0.0, 1.0], [4.0, 5.0]]
    assert (live.batch_sampler.drawn, recorded.asked(1)) == (0, [4, 5])
    whole, _ = _data_scan.private_loader(Source("train", 0, DataLoader(TensorDataset(torch.arange(6.0)), None)))
    assert len(list(whole)) == 6


def test_other_scans_are_refused():
    with pytest.raises(ValueError, match="'some'"):
        DataAuditor(scan="some")
