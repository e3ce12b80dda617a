"""NonFiniteGuard on two ranks, one of which gets a bad batch: both leave the step out, none waits for the other."""

import os
import sys
from pathlib import Path

import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.utils.data import DataLoader, Dataset

from lightning_debug import NonFiniteGuard
from lightning_debug.callbacks.non_finite_guard import KEY
from lightning_debug.evidence.numbers import NonFiniteStep, StepWindow
from tests.guarded import Program, mse, table
from tests.helpers import trainer
from tests.programs.farewell import part


class Rows(Dataset):
    """Row 5, in the second batch, is bad on rank 1."""

    def __init__(self, bad):
        self.x, self.y = table(16)
        if bad and os.environ["RANK"] == "1":
            self.x[5, 2] = torch.nan

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Sharded(Program):
    """Under FSDP2 its layers are sharded one by one."""

    def configure_model(self):
        mesh = init_device_mesh("cpu", (2,))
        for layer in (self.net[0], self.net[2], self.net):
            torch.distributed.fsdp.fully_shard(layer, mesh=mesh)


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.5)


def fit(strategy, guard, *, bad=True, kind=Program, **options):
    program = kind(mse, adamw, net())
    callbacks = [guard] if guard else []
    one = trainer(*callbacks, strategy=strategy, devices=2, max_epochs=1, use_distributed_sampler=False, **options)
    one.fit(program, DataLoader(Rows(bad), batch_size=4))
    return program, [whole(item) for item in program.net.parameters()], one


def whole(parameter):
    parameter = parameter.detach()
    return (parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter).clone()


def agree(weights):
    """Every rank holds the same."""
    for item in weights:
        other = item.clone()
        torch.distributed.broadcast(other, 0)
        assert torch.equal(item, other)


def skipped(guard):
    return sum(window.skipped for window in guard.session.record.of(StepWindow))


def main(folder: Path, rank: int) -> None:
    """Leaves a file ``passed <rank>``."""
    for accumulate in (1, 2):
        guard = NonFiniteGuard("skip")
        strategy = DDPStrategy(gradient_as_bucket_view=accumulate == 2)
        _, weights, _ = fit(strategy, guard, accumulate_grad_batches=accumulate)
        assert all(torch.isfinite(item).all() for item in weights)
        agree(weights)
        assert skipped(guard) == 1
        event = guard.session.record.first(NonFiniteStep)
        assert (event.causes, event.at.rank, event.gradient_count) == (("batch[0]",), 1, 4), event  # told to rank 0
        assert guard.report.headlines[0].code == "LD301"

    guard = NonFiniteGuard("rollback", keep_every=1, clip_quantile=0.5, clip_warm_up=1)
    program, weights, one = fit("ddp", guard)
    assert all(torch.isfinite(item).all() for item in weights)
    agree(weights)
    agree([torch.tensor(one._checkpoint_connector.dump_checkpoint()[KEY]["norms"][0]["limit"])])
    assert skipped(guard) == 1
    assert {int(held["step"]) for held in program.optimizers().optimizer.state.values()} == {2}  # one was undone

    guard = NonFiniteGuard("skip", max_skips=0)
    _, weights, one = fit("ddp", guard)
    assert one.global_step == 2
    agree(weights)
    if rank == 0:
        assert [item.code for item in guard.report.headlines] == ["LD301"], guard.report.findings
        assert "LD312" in [item.code for item in guard.report.findings]

    guard = NonFiniteGuard("rollback", keep_every=1, clip_quantile=0.5, clip_warm_up=1)
    _, weights, _ = fit(ModelParallelStrategy(), guard, kind=Sharded)
    assert all(torch.isfinite(item).all() for item in weights)
    agree(weights)
    assert skipped(guard) == 1

    guard = NonFiniteGuard("stop")
    _, weights, one = fit("ddp", guard)
    assert one.global_step == 2
    agree(weights)
    assert all(torch.isfinite(item).all() for item in weights)

    guard = NonFiniteGuard("skip")
    _, weights, _ = fit(ModelParallelStrategy(), guard, kind=Sharded)
    assert all(torch.isfinite(item).all() for item in weights)
    agree(weights)
    assert skipped(guard) == 1

    _, theirs, _ = fit(ModelParallelStrategy(), None, kind=Sharded, bad=False, gradient_clip_val=0.1)
    guard = NonFiniteGuard(max_norm=0.1)
    _, ours, _ = fit(ModelParallelStrategy(), guard, kind=Sharded, bad=False)
    assert all(map(torch.equal, ours, theirs))
    guard = NonFiniteGuard()
    _, plain, _ = fit(ModelParallelStrategy(), None, kind=Sharded, bad=False)
    _, watched, _ = fit(ModelParallelStrategy(), guard, kind=Sharded, bad=False)
    assert all(map(torch.equal, plain, watched))
    assert guard.report.findings == ()
    assert guard.session.record.last(StepWindow).local
    _, weights, _ = fit(ModelParallelStrategy(), NonFiniteGuard(), kind=Sharded)
    (folder / f"passed {rank}").touch()


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["LIGHTNING_DEBUG_STRICT"] = "1"
    os.environ["LIGHTNING_DEBUG_CONSOLE"] = "0"
    main(Path(sys.argv[1]), int(os.environ["RANK"]))
    part()
