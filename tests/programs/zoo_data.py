"""More healthy programs: where the data comes from, and nets of other kinds."""

import itertools
import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler

from tests.programs.zoo import PROGRAMS, Net, data, loaders, program

__all__ = ["PROGRAMS"]


@program
def iterator_of_batches():
    class Model(Net):
        def training_step(self, dataloader_iter):
            batch, _, _ = next(dataloader_iter)
            return self.loss(batch)

    return Model(), loaders(), {}


@program
def batches_without_a_loader():
    inputs, labels = data()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(8)).split(16)

    class Slice:
        def __iter__(self):
            return ((inputs[rows], labels[rows]) for rows in order)

    return Net(), (Slice(),), {}


class Endless(IterableDataset):
    def __init__(self, seed=9):
        self.seed = seed

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed)
        for _ in itertools.count():
            inputs = torch.randn(8, generator=generator)
            yield inputs, (inputs[0] > inputs[1]).long()


@program
def endless_stream():
    options = {"limit_train_batches": 4, "limit_val_batches": 2, "max_epochs": -1, "max_steps": 9}
    return Net(), (DataLoader(Endless(), batch_size=16), DataLoader(Endless(seed=10), batch_size=16)), options


class Rows(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, rows):
        inputs, labels = data()
        return inputs[rows], labels[rows]


@program
def batch_sampler_as_sampler():
    sampler = BatchSampler(RandomSampler(range(64)), 16, drop_last=False)
    return Net(), (DataLoader(Rows(), sampler=sampler, batch_size=None),), {"use_distributed_sampler": False}


@program
def several_validation_loaders():
    class Model(Net):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("ptl/val_loss", self.loss(batch))

    train, val = loaders()
    return Model(), (train, [val, val]), {"num_sanity_val_steps": 0, "check_val_every_n_epoch": sys.maxsize}


@program
def packed_sequences():
    class Model(Net):
        def __init__(self):
            super().__init__(nn.Linear(8, 2))
            self.rnn = nn.GRU(1, 8, batch_first=True)

        def forward(self, inputs):
            lengths = torch.full((len(inputs),), 8)
            packed = nn.utils.rnn.pack_padded_sequence(inputs.unsqueeze(-1), lengths, batch_first=True)
            return self.net(self.rnn(packed)[1][-1])

    return Model(), loaders(), {}


@program
def compiled_part():
    model = Net()
    model.net = torch.compile(model.net, backend="eager")
    return model, loaders(), {}


@program
def shapes_not_known_yet():
    return Net(nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 2))), loaders(), {}


@program
def data_in_a_module():
    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            return loaders()[0]

        def val_dataloader(self):
            return loaders()[1]

    return Net(), (), {"datamodule": Data()}
