"""One pass over the data of a datamodule, with a Trainer whose model does nothing."""

from __future__ import annotations

import importlib
import importlib.util
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from lightning_debug.debugger import Debugger
from lightning_debug.finding import Report


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
        ReadingFailed: If a dataset raises.
    """
    data: Any = found[0]
    lightning = importlib.import_module(_package(data))
    loaders: list[Any] = [data]
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
        callbacks=[debugger],
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning)\.")  # of a model that does nothing
            trainer.fit(_reader(lightning), **options)
    except SystemExit:  # how Lightning ends a fit that Ctrl-C interrupted
        if debugger.report.status != "interrupted":
            raise
    except Exception as error:
        raise ReadingFailed(_culprit(error, trainer, loaders), debugger.report) from error
    return debugger.report


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
    if isinstance(given, DataLoader) or not hasattr(given, "__getitem__"):
        return given
    return DataLoader(given, batch_size=batch_size, num_workers=workers, shuffle=shuffle)


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


def _culprit(error: Exception, trainer: Any, loaders: Sequence[Any]) -> str:
    """Names the first sample that raises; the datasets are asked again, one sample after the other."""
    told = f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else error!r}"
    given = [(name, getattr(trainer, attribute, None)) for name, attribute in _LOADERS]
    for name, one in given if any(item for _, item in given) else [("data", item) for item in loaders]:
        dataset: Any = getattr(one, "dataset", None)
        length = len(dataset) if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") else 0
        for index in range(length):
            try:
                dataset[index]
            except Exception as again:
                line = traceback.extract_tb(again.__traceback__)[-1]
                where = f"{line.filename.rpartition('/')[2]}:{line.lineno}"
                return f"sample {index} of the {name} dataset raises {type(again).__name__}: {again} ({where})"
    return f"reading the data raises {told}"


_LOADERS = (("training", "train_dataloader"), ("validation", "val_dataloaders"))
