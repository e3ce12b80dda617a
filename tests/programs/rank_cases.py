"""RankMonitor alone on two ranks: faults, and healthy look-alikes, each a short fit; every rank passes or says why not.

``FOLDER`` runs all; ``FOLDER dies`` has rank 1 raise in the middle of training.
"""

import collections
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_debug import RankMonitor
from tests.helpers import trainer
from tests.programs.farewell import part

RANK = int(os.environ.get("RANK", "0"))


@dataclass
class Pair:
    x: torch.Tensor
    y: torch.Tensor


class Model(pl.LightningModule):
    def __init__(self, net=None, sync=True):
        super().__init__()
        torch.manual_seed(3)
        self.net = net or nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4)
        )
        self.sync = sync

    def parts(self, batch):
        if isinstance(batch, dict):
            return batch["x"], batch["y"]
        return (batch.x, batch.y) if isinstance(batch, Pair) else batch[:2]

    def training_step(self, batch, batch_idx):
        x, y = self.parts(batch)
        loss = F.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = self.parts(batch)
        self.log("val/loss", F.cross_entropy(self.net(x), y), sync_dist=self.sync)
        self.log(f"val/loss of rank {RANK}", float(RANK))
        self.log("val/seconds", float(RANK))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def table(count=256):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, 8, generator=draw)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def loader(data=None, **options):
    return DataLoader(data if data is not None else TensorDataset(*table()), **{"batch_size": 16, **options})


def fit(model=None, train=None, val=None, callbacks=(), **options):
    monitor = RankMonitor()
    torch.manual_seed(5)
    options = {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": 2, "max_epochs": 2, **options}
    one = trainer(*callbacks, monitor, **options)
    one.fit(model or Model(), loader(shuffle=True) if train is None else train, val)
    return monitor, one


def codes(*arguments, **options):
    report = fit(*arguments, **options)[0].report
    assert report.status == "finished"
    return [item.code for item in report.findings]


class Stream(IterableDataset):
    def __init__(self, shared_out, form=tuple):
        self.shared_out, self.form = shared_out, form

    def __iter__(self):
        items = list(zip(*table(), strict=True))
        items = items[RANK::2] if self.shared_out else items
        return iter([self.form(item) for item in items])


class Own(Sampler):
    """Draws from all data, and forgets the rank."""

    def __init__(self, by_rank):
        self.by_rank = by_rank

    def __iter__(self):
        order = torch.randperm(256, generator=torch.Generator().manual_seed(0)).tolist()
        return iter(order[RANK::2] if self.by_rank else order[:128])

    def __len__(self):
        return 128


class Numbers(Dataset):
    """What stands for episodes of a simulation: the same few numbers on every rank."""

    def __len__(self):
        return 128

    def __getitem__(self, index):
        return torch.tensor([1.0] * 8), torch.tensor(index % 4)


class Sharded(Model):
    def __init__(self):
        super().__init__(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)))

    def configure_model(self):
        torch.distributed.fsdp.fully_shard(self.net, mesh=self.device_mesh["data_parallel"])


class Tensors(Model):
    """Two ranks hold one model: both must see the same batches."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)))

    def configure_model(self):
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        parallelize_module(
            self.net, self.device_mesh["tensor_parallel"], {"0": ColwiseParallel(), "2": RowwiseParallel()}
        )


class Noisy(Model):
    """Each rank adds its own noise to the gradients."""

    def on_before_optimizer_step(self, optimizer):
        draw = torch.Generator().manual_seed(RANK)
        for item in self.net.parameters():
            item.grad += 0.1 * torch.randn(item.shape, generator=draw)


class Plateau(Model):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}


class Metric(Model):
    """Logs an object that gathers by itself, and watches the training loss."""

    def __init__(self):
        super().__init__()
        self.accuracy = MulticlassAccuracy(4)

    def validation_step(self, batch, batch_idx):
        self.accuracy(self.net(batch[0]), batch[1])
        self.log("val_acc", self.accuracy)


def images(size):
    return TensorDataset(
        torch.randn(64, 3, size, size, generator=torch.Generator().manual_seed(2)), torch.arange(64) % 4
    )


def convolution():
    return Model(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def assert_found(code, *arguments, **options):
    """Rank 0 says it; what needs no other rank, the others know too."""
    found = codes(*arguments, **options)
    assert found == [code] if RANK == 0 else found in ([], [code]), (code, found)


def faults():
    whole = {"use_distributed_sampler": False}
    assert_found("LD901", train=loader(Stream(False)))
    assert_found("LD901", train=loader(Stream(False, lambda item: dict(zip("xy", item, strict=True)))))
    as_pairs = loader(collate_fn=lambda items: Pair(*map(torch.stack, zip(*items, strict=True))), shuffle=True)
    assert_found("LD901", train=as_pairs, **whole)
    assert_found("LD901", train=loader(sampler=Own(False)), **whole)
    assert_found("LD902", Noisy())
    monitor, _ = fit(Plateau(sync=False), val=loader())
    if RANK == 0:
        assert [item.code for item in monitor.report] == ["LD903"]
        assert "ReduceLROnPlateau" in monitor.report.findings[0].message
    stops = [pl.callbacks.EarlyStopping("val/loss")]
    assert_found("LD903", Model(sync=False), val=loader(), callbacks=stops)
    assert_found("LD904", convolution(), train=loader(images(2), batch_size=2))


def look_alikes():
    whole = {"use_distributed_sampler": False}
    watched = [pl.callbacks.EarlyStopping("val/loss"), pl.callbacks.ModelCheckpoint(monitor="val/loss")]
    assert not codes(val=loader(), callbacks=watched, enable_checkpointing=True)
    assert not codes(
        Metric(), val=loader(), callbacks=[pl.callbacks.EarlyStopping("loss", check_on_train_epoch_end=True)]
    )
    assert not codes(Model(sync=False), val=loader())  # nothing decides by it
    assert not codes(train=loader(Stream(True)))
    assert not codes(train=loader(sampler=Own(True)), **whole)
    assert not codes(train=loader(Numbers()), **whole)
    assert not codes(
        Model(nn.Linear(8, 4)), train=loader(TensorDataset(*table(3)))
    )  # one sample is repeated to fill up
    assert not codes(train=loader(TensorDataset(*table(12)), batch_size=6))
    assert not codes(Model(sync=False), train=loader(sampler=Own(True)), val=loader(), **whole)  # all validate on all
    assert not codes(convolution(), train=loader(images(16), batch_size=2))
    assert not codes(Sharded(), strategy=ModelParallelStrategy(2, 1, process_group_backend="gloo"))
    assert not codes(Tensors(), strategy=ModelParallelStrategy(1, 2, process_group_backend="gloo"))
    assert not codes(overfit_batches=2)
    assert not codes(limit_train_batches=0)


def calls(callbacks):
    """How often anything waits for other ranks in a fit."""
    counted, originals = collections.Counter(), {}
    for name in ("all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_object", "broadcast", "barrier",
                 "broadcast_object_list", "gather", "reduce", "monitored_barrier"):  # fmt: skip
        originals[name] = getattr(torch.distributed, name)

        def count(*args, _name=name, **kwargs):
            counted[_name] += 1
            return originals[_name](*args, **kwargs)

        setattr(torch.distributed, name, count)
    torch.manual_seed(5)
    model = Model()
    strategy = DDPStrategy(process_group_backend="gloo")
    trainer(*callbacks, strategy=strategy, devices=2).fit(model, loader(shuffle=True), loader())
    for name, original in originals.items():
        setattr(torch.distributed, name, original)
    return counted, [item.detach().clone() for item in model.parameters()]


def promises():
    alone, weights = calls([])
    counted, watched = calls([RankMonitor()])
    assert counted == alone  # the folder of the report is given: nothing is asked of rank 0
    assert all(map(torch.equal, weights, watched))
    one_sided, _ = calls([RankMonitor()] if RANK == 0 else [])
    assert one_sided == alone  # nobody waits for a rank without it


class Dies(Model):
    def training_step(self, batch, batch_idx):
        if RANK == 1 and batch_idx == 3:
            os._exit(3)
        return super().training_step(batch, batch_idx)


def main(folder, dies):
    if dies:
        try:
            fit(Dies())
        finally:
            (folder / f"ended {RANK}").touch()
        return
    faults()
    look_alikes()
    promises()
    (folder / f"passed {RANK}").touch()


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ["LIGHTNING_DEBUG_STRICT"] = "1"
    os.environ["LIGHTNING_DEBUG_CONSOLE"] = "0"
    os.environ["LIGHTNING_DEBUG_REPORT_DIR"] = str(Path(sys.argv[1]) / "report")
    main(Path(sys.argv[1]), "dies" in sys.argv)
    part()
