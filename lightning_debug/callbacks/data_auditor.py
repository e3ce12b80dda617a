"""DataAuditor: reads along what the loaders deliver, and tells what is wrong with it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from lightning_debug.callbacks import _arguments
from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._data_part import DataContext
from lightning_debug.callbacks._data_parts import PARTS_OF_DATA
from lightning_debug.callbacks._data_run import DataRun
from lightning_debug.callbacks._data_scan import PARTS_OF_SCAN, ScanContext, scan
from lightning_debug.callbacks._data_tap import HOOK, BatchTap
from lightning_debug.callbacks._data_unreadable import unreadable_sample
from lightning_debug.callbacks._data_watch import PRODUCES, can_watch
from lightning_debug.callbacks._lightning import LightningModule, Trainer, batch_hook_owner, is_fast_dev_run
from lightning_debug.evidence import Evidence
from lightning_debug.evidence.data import ScannedData, UnreadableSample


class DataAuditor(DebugCallback):
    """Finds what is wrong with the data while the run reads it: scale, layout, labels, order, copies, leaks.

    It sees every batch of training and validation on the host, before it goes to the device, and never iterates a
    loader itself. The first batches are looked at closely, later ones rarely.

    Args:
        inputs: Names of the batch's inputs, where they are not plain: the last key of the path (``"image"``), or the
            whole of it (``"batch[0]"``). Default: told from names, types and shapes.
        labels: Likewise of the labels.
        scan: ``"full"`` reads the whole training and validation sets once before training, through loaders of its
            own with at least one worker process, so that what is wrong is told before the first step. Ctrl-C tells
            of what was read by then, and ends the fit. Of several ranks the first one reads. ``"only"`` reads the
            run's own loaders once and ends the fit before its first step, as ``lightning-debug audit`` does. Default:
            neither; what the run reads anyway is looked at.

    Raises:
        ValueError: If ``inputs`` or ``labels`` are no names, or ``scan`` is something else.
    """

    produces: ClassVar[tuple[type[Evidence], ...]] = tuple(
        dict.fromkeys(
            [*(kind for part in PARTS_OF_DATA for kind in part.produces), *PRODUCES, UnreadableSample, ScannedData]
        )
    )

    _run: DataRun | None = None
    _scanned: DataRun | None = None

    def __init__(
        self,
        inputs: str | list[str] | None = None,
        labels: str | list[str] | None = None,
        scan: Literal["full", "only"] | None = None,
    ) -> None:
        _arguments.words(several=True, inputs=inputs, labels=labels)
        _arguments.chosen(("full", "only"), ", or leave it out", scan=scan)
        self.inputs, self.labels, self.scan = inputs, labels, scan

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to read along."""
        self._end()
        if trainer.barebones:
            return
        if self._scan_first(trainer, pl_module):
            return
        run = self._run = DataRun(self, DataContext(trainer, pl_module), PARTS_OF_DATA, self.inputs, self.labels)
        run.begin()
        run.tap = BatchTap(batch_hook_owner(trainer, HOOK), run.see)
        reason = can_watch(pl_module)
        for kind in PRODUCES if reason else ():
            self.unavailable(kind, reason, trainer)

    def _scan_first(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Scans if asked to; says whether that was all."""
        context = ScanContext(trainer, pl_module)
        only = self.scan == "only" and len(context.sources("train")) == 1
        few = is_fast_dev_run(trainer) or bool(getattr(trainer, "overfit_batches", 0))
        if not only and (self.scan != "full" or few or trainer.global_rank != 0):
            return False
        parts = PARTS_OF_DATA if only else PARTS_OF_SCAN
        run = self._scanned = DataRun(self, context, parts, self.inputs, self.labels)
        if only:
            trainer.should_stop = True
            scan(run, bar=trainer.progress_bar_callback is not None, live=True)
        else:
            with self.attempt("scanning", trainer):
                scan(run, bar=trainer.progress_bar_callback is not None)
        return only

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts batches from 0 again."""
        if self._run is not None:
            self._run.restart("train")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Arranges for the coming step to be watched, on the steps that are."""
        if self._run is not None:
            known = self._run.known("train", 0)
            self._run.watch.train_batch(pl_module, batch, batch_idx, trainer.current_epoch, known)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Arranges for the coming step to be watched, on the steps that are."""
        if self._run is not None and not trainer.sanity_checking and dataloader_idx == 0:
            self._run.watch.validation_batch(pl_module, batch, batch_idx, self._run.known("validate", 0))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts batches from 0 again."""
        if self._run is not None:
            self._run.restart("validate")
            self._run.watch.validation_begins()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has the heavier work done."""
        if self._run is not None:
            self._run.end_of_epoch("train")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has the heavier work done."""
        if self._run is not None and not trainer.sanity_checking:
            self._run.end_of_epoch("validate")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tells what was gathered."""
        self._finish(broken_off=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells what was gathered so far, and which sample could not be read."""
        if isinstance(exception, Exception):
            with self.attempt("naming the sample", trainer):
                run = self._run or self._scanned
                delivered = run.delivered if run is not None else {}
                found = unreadable_sample(exception, DataContext(trainer, pl_module), delivered)
                if found is not None:
                    self.session.observe(found)
        self._finish(broken_off=True)  # the device may not answer any more

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the tap away."""
        self._end()
        self._scanned = None

    def _finish(self, *, broken_off: bool) -> None:
        run = self._run
        self._end()
        if run is not None:
            run.watch.over(broken_off=broken_off)
            run.finish(wait=not broken_off)

    def _end(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.watch.release()
            if run.tap is not None:
                run.tap.remove()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_run", "_scanned"):
            state.pop(name, None)
        return state
