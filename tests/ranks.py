"""The programs of :mod:`tests.identity` on several ranks: ``torchrun -m tests.ranks NAME FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn

from lightning_debug import Debugger
from tests import identity, identity_modules


class Branching(identity_modules.Base):
    """A part of the net takes part in every third step only."""

    def __init__(self) -> None:
        super().__init__()
        self.seldom = nn.Linear(6, 6)

    def training_step(self, batch, batch_idx):
        if batch_idx % 3 == 2:
            batch = {"x": self.seldom(batch["x"]), "y": batch["y"]}
        return super().training_step(batch, batch_idx)


class Sharded(identity_modules.Base):
    """FSDP2: every layer and the rest are sharded."""

    def __init__(self) -> None:
        super().__init__()
        self.average = None

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))

    def configure_model(self):
        from torch.distributed.fsdp import fully_shard

        for part in self.net:
            if isinstance(part, nn.Linear):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])
        fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.average = loss.detach() if self.average is None else 0.9 * self.average + 0.1 * loss.detach()
        return loss


WORLD = int(os.environ.get("WORLD_SIZE", "1"))


def ddp(**options: Any) -> Any:
    return lambda: DDPStrategy(process_group_backend="gloo", **options)


STRATEGIES = {
    "ddp": (identity_modules.Stateful, ddp()),
    "ddp views": (identity_modules.Stateful, ddp(gradient_as_bucket_view=True)),
    "ddp unused": (Branching, ddp(find_unused_parameters=True)),
    "ddp manual": (identity_modules.Manual, ddp(find_unused_parameters=True)),
    "ddp accumulated": (identity_modules.Stateful, ddp()),
    "fsdp2": (Sharded, lambda: ModelParallelStrategy(WORLD, 1, process_group_backend="gloo")),
}


def main(name: str, folder: Path) -> int:
    """Runs one program alone twice, and with each of our callbacks; prints what differs."""
    torch.set_num_threads(1)
    module, strategy = STRATEGIES[name]
    callbacks = {
        "alone": [],
        "again": [],
        "experiments": [identity.Experiments()],
        "debugger": [Debugger(console=False, strict=True)],
        "searches": identity.searches(),
        "searches later": identity.searches(at_step=3),
    }
    outcomes, bad = {}, 0
    extra = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5} if name == "ddp accumulated" else {}
    for label, ours in callbacks.items():
        run = identity.program(module, strategy=strategy(), devices=WORLD, max_epochs=2, **extra)
        outcomes[label] = run(folder / label, ours)
        different = identity.differing(outcomes["alone"], outcomes[label])
        count = getattr(ours[0], "count", "") if ours else ""
        if label.startswith("searches"):
            failed = [str(item.message) for item in ours[0].report.findings if item.code in ("LD001", "LD002")]
            count = failed or [item.reason for item in ours[0].report.skips if item.code == "LD605"]
            bad += bool(failed)
            rates = [f"{item.suggestion} of {len(item.trials)} trials" for item in ours[0].results]
            refused = [item.reason for item in ours[0].report.skips if item.code == "LD602"]
            print(f"{name} {label} suggests {rates or refused}", flush=True)
        print(f"{name} on {WORLD}: {label}: {different or 'identical'} {count}", flush=True)
        bad += bool(different)
    return bad


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
