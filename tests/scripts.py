"""Scripts as users write them, for tests that run them unedited. Each prints its final weights' digest as its last line."""

from __future__ import annotations

import textwrap
from pathlib import Path

_COMMON = """
import hashlib
import os
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

{imports}
import net_of_this_project  # only found where python looks first: beside the script


class Items(Dataset):
    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(count, 8, generator=generator)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        item = self.inputs[index]
        return {{"features": {{"values": item, "extra": torch.zeros(0)}}, "label": (item[0] > 0).long() + (item[1] > 0).long()}}


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        self.train, self.validation = Items(128, 1), Items(48, 2)

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.validation, self.batch_size)


class Model(pl.LightningModule):
    def __init__(self, rate: float = 1e-2):
        super().__init__()
        self.rate = rate
        self.body = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))

    def forward(self, features):
        return self.body(features["values"]){end}

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch["features"]), batch["label"])
        self.log("train_loss", loss)
        return {{"loss": loss}}

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch["features"]), batch["label"]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.rate)


def digest(model):
    print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest())


OPTIONS = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
"""

ARGPARSE = """
def main():
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--select", help="clashes with an option of lightning-debug")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    pl.seed_everything(1)
    model = Model()
    trainer = pl.Trainer(max_epochs=options.epochs, **OPTIONS)
    trainer.fit(model, datamodule=Data())
    assert trainer.current_epoch == options.epochs
    print(sys.argv, sys.path[0], __file__, __name__, __package__, __spec__ and __spec__.name, options.words)
    digest(model)


if __name__ == "__main__":
    main()
"""

TWO_TRAINERS = """
def fit(callbacks):
    model = Model()
    pl.Trainer(max_epochs=1, callbacks=callbacks, **OPTIONS).fit(model, Data())
    return model


pl.seed_everything(1)
shared = [pl.Callback()]
first, second = fit(shared), fit(shared)
digest(first)
digest(second)
"""

LIGHTNING_CLI = """
if __name__ == "__main__":
    from {package}.cli import LightningCLI

    cli = LightningCLI(Model, Data, seed_everything_default=1, trainer_defaults={{"max_epochs": 2, **OPTIONS}}, save_config_callback=None)
    digest(cli.model)
"""

EXITS = """
pl.seed_everything(1)
pl.Trainer(max_epochs=1, **OPTIONS).fit(Model(), Data())
sys.exit({code})
"""

RAISES = """
def step_that_fails(self, batch, batch_idx):
    raise KeyError("a bug of the script")


Model.training_step = step_that_fails
pl.Trainer(max_epochs=1, **OPTIONS).fit(Model(), Data())
"""

OWN_DEBUGGER = """
from lightning_debug import Debugger

pl.seed_everything(1)
debugger = Debugger(console=False)
trainer = pl.Trainer(max_epochs=1, callbacks=[debugger], **OPTIONS)
model = Model()
trainer.fit(model, Data())
from lightning_debug.debugger import Debugger as Kind
others = [item for item in trainer.callbacks if isinstance(item, Kind) and item is not debugger]
assert debugger.report.context is not None
assert all(item.report.context is None for item in others), "two Debuggers ran"
digest(model)
"""

NO_TRAINER = """
print("no training here")
"""

SEVERAL_PROCESSES = """
if __name__ == "__main__":
    torch.set_num_threads(1)
    pl.seed_everything(1)
    model = Model()
    trainer = pl.Trainer(devices=2, strategy=sys.argv[1], max_epochs=2, **OPTIONS)
    trainer.fit(model, Data())
    if trainer.global_rank == 0:
        digest(model)
"""

SOFTMAX = ".softmax(dim=-1)"


def write(
    folder: Path, body: str, *, package: str = "pytorch_lightning", end: str = "", name: str = "train.py"
) -> Path:
    """Writes a script and the module beside it.

    Args:
        folder: Where to.
        body: What the script does with the model; ``{package}`` is the package it uses.
        package: ``pytorch_lightning`` or ``lightning.pytorch``.
        end: What follows the model's output; :data:`SOFTMAX` plants LD201.
        name: The script's name.
    """
    text = _COMMON.format(imports=f"import {package} as pl", end=end) + body.replace("{package}", package)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net_of_this_project.py").write_text("")
    (folder / name).write_text(textwrap.dedent(text).replace("{{", "{").replace("}}", "}"), encoding="utf-8")
    return folder / name
