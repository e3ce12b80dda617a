"""ShapeTrace: the table of shapes of a healthy model, in the console and in TensorBoard."""

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F

from lightning_debug import Debugger, ShapeTrace
from lightning_debug.evidence.errors import ShapeTable
from tests.errors.runs import Base, loader
from tests.helpers import alarms, trainer


class Net(Base):
    """Folds its frames into the batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(8, 3)

    def training_step(self, batch, batch_idx):
        x, y = batch
        folded = self.conv(x.flatten(0, 1)).relu().mean((2, 3))
        return F.cross_entropy(self.head(folded.unflatten(0, (len(x), -1)).mean(1)), y)


def data():
    return loader(torch.randn(16, 2, 1, 8, 8), torch.randint(3, (16,)))


def test_the_batch_dimension_is_marked():
    watch = ShapeTrace()
    trainer(watch, max_epochs=1).fit(Net(), data())
    [table] = watch.session.record.of(ShapeTable)
    assert table.marked
    rows = {row.module or row.operation: row for row in table.rows}
    assert rows["conv"].output == (16, 8, 6, 6)
    assert rows["conv"].batch == (2, 0, 0, 0)  # 8 channels are no batch, though there are 8 samples
    assert rows["head"].output == (8, 3)
    assert rows["head"].batch == (1, 0)
    assert not alarms(watch.report)


def test_console_and_tensorboard(tmp_path, capsys):
    logger = TensorBoardLogger(tmp_path)
    debugger = Debugger(shapes=True, strict=True, report_dir=str(tmp_path / "report"))
    trainer(debugger, max_epochs=1, logger=logger).fit(Net(), data())
    told = capsys.readouterr().err
    assert "shapes of a training step (B = 8)" in told
    assert "(2B, 1, 8, 8) -> (2B, 8, 6, 6)" in told
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert "lightning_debug/shapes/text_summary" in events.Tags()["tensors"]


def test_without_shapes_nothing_is_traced(capsys):
    debugger = Debugger(strict=True)
    trainer(debugger, max_epochs=1).fit(Net(), data())
    assert not debugger.session.record.seen(ShapeTable)
    assert "shapes of" not in capsys.readouterr().err
