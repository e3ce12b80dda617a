"""One pass over the data of a datamodule, with a Trainer whose model does nothing."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_debug.callbacks.data_auditor import DataAuditor
from lightning_debug.debugger import Debugger
from lightning_debug.evidence.data import ScannedData, UnreadableSample
from lightning_debug.finding import Claim, Report
from lightning_debug.registry import get


def read(found: Sequence[Any], debugger: Debugger, *, batch_size: int = 64, workers: int = 0) -> Report:
    """Reads data once, training before validation, with Lightning's progress bar.

    Args:
        found: One datamodule; or datasets, or loaders: training, and validation if there are two.
        debugger: Who looks.
        batch_size: Of the loaders that are made for datasets.
        workers: Their worker processes.

    Returns:
        The report; ``"interrupted"`` after Ctrl-C, with what was seen by then.

    Raises:
        ReadingFailed: If a dataset raises, or there is nothing to read.
    """
    data: Any = found[0]
    lightning = importlib.import_module(_package(data))
    options: dict[str, Any] = {"datamodule": data}
    if not hasattr(data, "train_dataloader"):
        loaders = [_loader(item, batch_size, workers, shuffle=not place) for place, item in enumerate(found)]
        options = dict(zip(("train_dataloaders", "val_dataloaders"), loaders, strict=False))
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[debugger, *([DataAuditor(scan="only")] if audits(debugger) else [])],
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning)\.")  # of a model that does nothing
            trainer.fit(_reader(lightning), **options)
    except SystemExit:  # how Lightning ends a fit that Ctrl-C interrupted
        if debugger.report.status != "interrupted":
            raise
    except Exception as error:
        raise ReadingFailed(_culprit(f"{type(error).__name__}: {error}", debugger), debugger.report) from error
    failed = [item.outcome for item in debugger.session.record.of(ScannedData) if item.outcome.startswith("failed: ")]
    if failed:
        raise ReadingFailed(_culprit(failed[0].partition(": ")[2], debugger), debugger.report)
    if trainer.num_training_batches == 0:
        raise ReadingFailed("the training data are empty: no batch was read", debugger.report)
    return debugger.report


def audits(debugger: Debugger) -> bool:
    """Whether the data are to be looked at at all."""
    return any(isinstance(part, DataAuditor) for part in debugger.parts)


class ReadingFailed(Exception):
    """A dataset raised while it was read.

    Args:
        message: Which sample, and what it raised.
        report: What was found before that.
    """

    def __init__(self, message: str, report: Report) -> None:
        self.report = report
        super().__init__(message)


def _package(data: Any) -> str:
    """The package that a datamodule is of; the two do not take each other's."""
    bases = [base.__module__ for base in type(data).__mro__]
    if any(name.startswith("lightning.") for name in bases):
        return "lightning.pytorch"
    own = importlib.util.find_spec("pytorch_lightning") is not None
    return "pytorch_lightning" if own else "lightning.pytorch"


def _loader(given: Any, batch_size: int, workers: int, *, shuffle: bool) -> Any:
    if isinstance(given, IterableDataset):
        return DataLoader(given, batch_size=batch_size, num_workers=workers)
    if isinstance(given, DataLoader) or not hasattr(given, "__getitem__"):
        return given
    empty = hasattr(given, "__len__") and len(given) == 0  # no sampler shuffles nothing
    return DataLoader(given, batch_size=batch_size, num_workers=workers, shuffle=shuffle and not empty)


def _reader(lightning: Any) -> Any:
    """A module that reads batches and does nothing with them."""

    class Reader(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.nothing = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            return None

        def configure_optimizers(self) -> None:
            return None

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            return batch

    return Reader()


def _culprit(told: str, debugger: Debugger) -> str:
    """Names the sample that raised, where that is known."""
    record = debugger.session.record
    for claim in get("LD521").function(record) if record.seen(UnreadableSample) else ():
        message = claim.message if isinstance(claim, Claim) else claim.reason
        return message[0].lower() + message[1:].rstrip(".")
    raised = told.strip().splitlines()[-1]
    ragged = "equal size" in raised or "default_collate" in raised
    hint = " (name a DataLoader with the collate_fn of these samples, or the LightningDataModule)" if ragged else ""
    return f"reading the data raises {raised}{hint}"
