"""What cannot be put back is refused before anything runs, with its path and type; what is harmless is not."""

from __future__ import annotations

import csv
import dataclasses
import functools
import gc
import io
import itertools
import random
import re
import socket
import sqlite3
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from lightning_debug.experiments._snapshot import Snapshot
from lightning_debug.experiments.isolation import Unrepeatable, isolated
from tests.helpers import trainer as make_trainer


class Plain(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)
        self.ran = 0

    def training_step(self, batch):
        self.ran += 1
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Try(pl.Callback):
    """Tries one step in isolation and keeps the refusal."""

    def __init__(self, **options) -> None:
        self.refusal: Unrepeatable | None = None
        self.options = options

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        ran = pl_module.ran
        try:
            with isolated(trainer, pl_module, **self.options) as sandbox:
                sandbox.training_step(batch)
        except Unrepeatable as error:
            self.refusal = error
            assert pl_module.ran == ran


def attempt(module, batches=None, **options) -> Unrepeatable | None:
    tried = Try()
    batches = batches or DataLoader(TensorDataset(torch.randn(4, 3)), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_trainer(tried, max_steps=1, max_epochs=1, **options).fit(module, batches)
    return tried.refusal


def held(value) -> Unrepeatable | None:
    module = Plain()
    module.held = value
    return attempt(module)


class Box:
    def __init__(self, value) -> None:
        self.deep = {"list": [value]}


def generator():
    yield 1


def closing_over(source):
    return lambda: next(source)


def opened(tmp_path):
    return (tmp_path / "x").open("w")


REFUSED = {
    "generator": lambda folder: generator(),
    "iterator": lambda folder: iter([1, 2]),
    "counter": lambda folder: itertools.count(),
    "cycle": lambda folder: itertools.cycle([1]),
    "file": opened,
    "binary file": lambda folder: (folder / "x").open("wb"),
    "csv writer": lambda folder: csv.writer(io.StringIO()),
    "socket": lambda folder: socket.socket(),
    "database": lambda folder: sqlite3.connect(":memory:"),
    "event writer": lambda folder: SummaryWriter(str(folder)),
    "logger": lambda folder: pl.loggers.CSVLogger(str(folder)),
    "thread": lambda folder: threading.Thread(),
    "pool": lambda folder: ThreadPoolExecutor(),
    "extension": lambda folder: zlib.compressobj(),
    "lazy module": lambda folder: nn.LazyLinear(3),
    "seed sequence": lambda folder: numpy.random.SeedSequence(),
    "deep": lambda folder: Box(Box(generator())),
    "loader in use": lambda folder: iter(DataLoader(TensorDataset(torch.ones(2)))),
    "profiler": lambda folder: torch.profiler.profile(),
    "in a closure": lambda folder: closing_over(generator()),
    "in a partial": lambda folder: functools.partial(next, generator()),
    "bound": lambda folder: generator().__next__,
    "in an object array": lambda folder: numpy.array([generator(), None], dtype=object),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    value = REFUSED[name](tmp_path)
    refusal = held(value)
    assert refusal is not None
    assert "Plain.held" in refusal.reasons[0] or "Plain._modules['held']" in refusal.reasons[0]
    if hasattr(value, "close"):
        value.close()
    del value, refusal
    gc.collect()  # what is left open is told here, where it is expected, and not in the next test


def test_the_reason_names_path_and_type():
    refusal = held(Box(generator()))
    assert refusal.reasons == ("Plain.held.deep['list'][0] (generator): an iterator, which cannot be set back",)


class Env:
    """Like a gym environment: Python state and generators."""

    def __init__(self) -> None:
        self.np_random = numpy.random.default_rng(0)
        self.state, self.done = numpy.zeros(4), False


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: int = 1


ALLOWED = {
    "environment": Env,
    "frozen dataclass": Frozen,
    "pattern": lambda: re.compile("a"),
    "path": lambda: Path("a"),
    "lock": threading.Lock,
    "local": threading.local,
    "function": lambda: torch.relu,
    "lambda": lambda: lambda x: x,
    "cached function": lambda: functools.lru_cache(lambda x: x),
    "scripted function": lambda: torch.jit.script(_scripted),
    "scripted module": lambda: torch.jit.script(nn.Linear(2, 2)),
    "traced module": lambda: torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)),
    "dataset": lambda: TensorDataset(torch.ones(2)),
    "loader": lambda: DataLoader(TensorDataset(torch.ones(2))),
    "system generator": random.SystemRandom,
    "exception": lambda: ValueError("a"),
    "type": lambda: int,
    "device": lambda: torch.device("cpu"),
    "distribution": lambda: torch.distributions.Normal(torch.zeros(1), torch.ones(1)),
    "named result": lambda: torch.ones(2).max(0),
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    "sparse": lambda: torch.eye(2).to_sparse_csr(),
    "graph module": lambda: torch.fx.symbolic_trace(nn.Linear(2, 2)),
    "memory map": lambda: numpy.memmap("map", dtype="float32", mode="w+", shape=(3,)),
    "ema": lambda: torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2)),
}


def _scripted(x: torch.Tensor) -> torch.Tensor:
    return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = ALLOWED[name]()
    assert held(value) is None


def test_transformers_with_its_tokenizer():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    module = Plain()
    module.encoder = transformers.BertModel(config)
    folder = Path("vocabulary")
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    module.tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    assert attempt(module) is None


def test_what_only_a_data_set_holds_is_passed_over():
    class Files(Dataset):
        def __init__(self) -> None:
            self.file = generator()

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return (torch.ones(3),)

    module = Plain()
    module.data = data = Files()
    assert attempt(module, DataLoader(data, 2)) is None
    module.also = data.file
    assert attempt(module) is not None


def test_too_many_objects_are_refused():
    snapshot = Snapshot(limit=1000)
    snapshot.add([[index] for index in range(2000)], "big")
    assert "beyond the 1000 objects" in snapshot.reasons[0]


def test_an_exotic_batch_is_no_obstacle():
    batch = (torch.ones(2, 3), zlib.compressobj(), {"names": ["a"], "none": None}, generator())
    assert attempt(Plain(), DataLoader([batch], batch_size=None)) is None


def test_a_table():
    pandas = pytest.importorskip("pandas")

    module = Plain()
    module.table = pandas.DataFrame({"a": [1, 2]})

    class Edits(Try):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            before = pl_module.table
            with isolated(trainer, pl_module):
                pl_module.table.loc[0, "a"] = 9
                pl_module.table["b"] = 1
            assert pl_module.table is before
            assert pl_module.table.to_dict() == {"a": {0: 1, 1: 2}}

    make_trainer(Edits(), max_steps=1).fit(module, DataLoader(TensorDataset(torch.randn(4, 3)), 2))
