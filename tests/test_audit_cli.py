"""``lightning-debug audit``: one pass over the data, without a model, and the same report."""

import json
import sys

import pytest
import pytorch_lightning

from lightning_debug import audit, cli

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

DATA = """
import torch, pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

class Raises(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, index):
        if index == 37:
            raise ValueError("a corrupt file")
        return torch.zeros(3) + index, index % 2

class Interrupted(Raises):
    def __getitem__(self, index):
        if index == 37:
            raise KeyboardInterrupt
        return torch.zeros(3) + index, index % 2

class Data(pl.LightningDataModule):
    def __init__(self, size: int = 240, leak: bool = False):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, 3, (size,), generator=generator)
        inputs = torch.randn(3, 6, generator=generator)[labels] + 0.5 * torch.randn(size, 6, generator=generator)
        self.full, self.leak = TensorDataset(inputs, labels), leak

    def train_dataloader(self):
        return DataLoader(Subset(self.full, range(160)), 20, shuffle=True)

    def val_dataloader(self):
        return DataLoader(Subset(self.full, range(100 if self.leak else 160, len(self.full))), 20)

made = Data()
train_set, val_set = Subset(made.full, range(160)), Subset(made.full, range(160, 240))
raises, interrupted, number = Raises(), Interrupted(), 5

from torch.utils.data import IterableDataset

class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.randn(3), index % 2) for index in range(50)])

inputs = torch.randn(60, 3)
empty, stream = TensorDataset(inputs[:0], inputs[:0]), Stream()
texts = [(row, "cat" if index % 2 else "dog") for index, row in enumerate(inputs)]
no_tensors = [{"text": "a" * index} for index in range(60)]
ragged = DataLoader([torch.randn(1 + index % 3, 3) for index in range(60)], 20, collate_fn=list)
one_hot = TensorDataset(inputs, torch.eye(2)[torch.arange(60) % 2])
multi_hot = TensorDataset(inputs, (torch.rand(60, 4) > 0.5).float())
zero_d = DataLoader([(row, torch.tensor(1.0)) for row in inputs], batch_size=None)
uncollatable = [torch.zeros(3), torch.zeros(4)]
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command on names of a module; returns exit code, what was told, and the report."""
    (tmp_path / "audited_data.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def call(names, *words):
        code = cli.main(["audit", f"audited_data.py:{names}", "--report-dir", "out", *words])
        path = tmp_path / "out" / "report.json"
        return code, capsys.readouterr().err, json.loads(path.read_text()) if path.exists() else None

    return call


@pytest.mark.parametrize("names", ["Data", "made", "train_set,val_set", "train_set"])
def test_healthy_data(run, names):
    code, told, report = run(names, "--fail-on", "warning")
    assert (code, "no fault found" in told) == (0, True), told
    assert report is not None


def test_a_fault_is_found_and_fails_if_asked(run):
    code, told, report = run("Data", "--data.leak", "true", "--fail-on", "error")
    assert code == audit.FAULT_EXIT
    assert "1 finding: LD510" in told
    assert "LD510" in json.dumps(report)
    assert run("Data", "--data.leak=true")[0] == 0


def test_a_dataset_that_raises_is_told_with_the_sample(run):
    code, told, report = run("raises")
    assert code == audit.FAILED_EXIT
    assert "sample 37 of the training dataset raises ValueError: a corrupt file" in told
    assert report is not None


def test_an_interrupt_gives_the_report_so_far_and_says_so(run):
    code, told, report = run("interrupted")
    assert code == audit.INTERRUPTED_EXIT
    assert "interrupted" in told
    assert "interrupted" in json.dumps(report)


@pytest.mark.parametrize("words", [("nothing",), ("Data", "--data.what=3"), ("made", "--data.size=3")])
def test_what_is_not_there_is_refused(run, words):
    assert run(*words)[0] == cli.USAGE_EXIT


@pytest.mark.parametrize("target", ["no_such_module_x:Data", "nowhere.py:Data", "Data"])
def test_a_wrong_target_is_refused(target, capsys):
    assert cli.main(["audit", target]) == cli.USAGE_EXIT
    assert capsys.readouterr().err.startswith("lightning-debug audit: ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train_set", "--workers", "-1"), "--workers=-1 is not accepted; give a whole number from 0 on"),
        (("train_set", "--batch-size=0"), "--batch-size=0 is not accepted; give a whole number from 1 on"),
        (("train_set,val_set,empty",), "names 3: give one datamodule, or one or two datasets or loaders"),
        (("made,val_set",), "names 2: give one datamodule"),
        (("number",), "number is of type int: no datamodule, no dataset and no loader"),
        (("train_set", "--select", "LD2"), "no rule is left that reads data: those are LD5"),
    ],
)
def test_what_cannot_be_audited_is_refused_before_it_is_read(run, words, told):
    code, said, report = run(*words)
    assert (code, told in said, report) == (cli.USAGE_EXIT, True, None), said


@pytest.mark.parametrize(
    "names", ["train_set,empty", "stream", "texts", "no_tensors", "ragged", "one_hot", "multi_hot", "zero_d"]
)
def test_odd_data_are_read_to_their_end(run, names):
    code, told, report = run(names)
    assert code == 0, told
    assert "LD001" not in json.dumps(report)


def test_data_without_tensors_are_not_called_healthy(run):
    assert "nothing was looked at" in run("no_tensors")[1]
    assert "no fault found" in run("one_hot")[1]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("uncollatable", "reading the data raises RuntimeError: stack expects each tensor to be equal size"),
        ("empty", "the training data are empty: no batch was read"),
    ],
)
def test_what_cannot_be_read_is_told(run, names, reason):
    code, told, _ = run(names)
    assert (code, reason in told) == (audit.FAILED_EXIT, True), told


UNGUARDED = """
import argparse, torch, pytorch_lightning as pl
from torch.utils.data import TensorDataset

options = argparse.ArgumentParser()
options.add_argument("--size", type=int, default=60)
size = options.parse_args().size
train_set = TensorDataset(torch.randn(size, 3), torch.arange(size) % 2)
{training}
late_set = TensorDataset(torch.randn(60, 3), torch.arange(60) % 2)
"""

FIT = """
def main():
    trainer = pl.Trainer(max_epochs=1, logger=False)
    try:
        trainer.fit(pl.LightningModule())
    except Exception:
        pass
    open("trained", "w").close()
main()
"""


CLI = """
from pytorch_lightning.cli import LightningCLI
LightningCLI(pl.LightningModule)
"""


@pytest.mark.parametrize("training", [FIT, CLI], ids=["fit", "cli"])
@pytest.mark.parametrize("target", ["audited_unguarded.py", "audited_unguarded_module"])
def test_a_script_that_trains_as_it_is_imported_is_not_trained(training, target, tmp_path, monkeypatch, capsys):
    name = target.removesuffix(".py")
    script = UNGUARDED.format(training=training)
    (tmp_path / f"{name}.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    fit = pytorch_lightning.Trainer.fit
    try:
        for names, code in (("train_set", 0), ("late_set", cli.USAGE_EXIT)):
            sys.modules.pop(name, None)
            assert cli.main(["audit", f"{target}:{names}"]) == code
    finally:
        sys.modules.pop(name, None)
    line = script[: script.index(training) + len(training)].count("\n")
    assert f"has no 'late_set' where it begins to train (line {line}), and an audit does not" in capsys.readouterr().err
    assert not (tmp_path / "trained").exists()
    assert pytorch_lightning.Trainer.fit is fit


def test_a_name_that_is_nearly_right_is_suggested(run):
    assert "has no 'train_sets'; did you mean 'train_set'?" in run("train_sets")[1]
