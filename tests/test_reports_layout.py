"""The custom-scalars layout: which names are on the loss chart, and a user's own layout is never lost."""

import re

import pytest
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import custom_scalars

from lightning_debug.evidence import Moment
from lightning_debug.record import Record
from lightning_debug.reports import _layout
from lightning_debug.reports.tensorboard import TensorBoardSink
from tests.snapshots.eventfiles import events, layouts, texts
from tests.snapshots.examples import FULL, HEALTHY, SOFTMAX, ExampleCurve

LOSS_CHART = "loss: training and validation"
MINE = {"mine": {"both": ["Multiline", ["a", "b"]], "band": ["Margin", ["mean", "low", "high"]]}}


def test_layout_is_left_alone_where_it_cannot_be_merged(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    proto = layout_pb2.Layout()
    proto.category.add(title="mine").chart.add(title="two bands").margin.series.add(value="a", lower="b", upper="c")
    proto.category[0].chart[0].margin.series.add(value="d", lower="e", upper="f")
    summary = custom_scalars(MINE)
    summary.value[0].tensor.string_val[0] = proto.SerializeToString()
    writer._get_file_writer().add_summary(summary)
    sink = TensorBoardSink(writer)
    sink.on_evidence(ExampleCurve(values={"x": 1.0}, at=Moment(step=4)))
    sink.on_report(HEALTHY, Record())
    read = events(tmp_path)
    assert len(layouts(read)) == 1
    assert "layout is left as it is" in texts(read)["lightning_debug/report"][0]


def test_a_writer_without_a_folder_gets_the_layout_once():
    class Memory:
        def __init__(self):
            self.calls = []

        def __getattr__(self, name):
            if name.startswith(("add_", "flush")):
                return lambda *arguments: self.calls.append((name, arguments))
            raise AttributeError(name)

    writer = Memory()
    sink = TensorBoardSink(writer)
    for step in range(5):
        sink.on_evidence(ExampleCurve(values={"loss/train": 1.0, "norm": 2.0}, at=Moment(step=step)))
    sink.on_finding(SOFTMAX)
    sink.on_report(FULL, Record())
    names = [name for name, _ in writer.calls]
    assert names.count("add_custom_scalars") == 1
    assert names[-1] == "flush"
    (layout,) = next(arguments for name, arguments in writer.calls if name == "add_custom_scalars")
    assert list(layout["lightning_debug"]) == [LOSS_CHART, "norm"]  # our own loss is on the loss chart already


def test_a_layout_from_an_earlier_process_is_found(tmp_path):
    first = SummaryWriter(str(tmp_path))
    first.add_custom_scalars(MINE)
    first.close()
    second = SummaryWriter(str(tmp_path), filename_suffix=".later")
    second.add_scalar("x", 1.0, 0)
    second.flush()
    assert _layout.written(str(tmp_path)) == MINE
    assert _layout.written(str(tmp_path / "nothing")) is None


def test_a_file_too_large_to_search_is_left_alone(tmp_path, monkeypatch):
    writer = SummaryWriter(str(tmp_path))
    writer.add_custom_scalars(MINE)
    writer.flush()
    monkeypatch.setattr(_layout, "MOST_BYTES", 10)
    with pytest.raises(_layout.UnreadableLayout, match="too large"):
        _layout.written(str(tmp_path))


def test_a_folder_elsewhere_is_left_alone():
    with pytest.raises(_layout.UnreadableLayout, match="cannot be searched"):
        _layout.written("s3://bucket/run")


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    writer.add_custom_scalars(MINE)
    writer.add_text("custom_scalars__config__ in a text", "x")
    writer.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-30])
    assert _layout.written(str(tmp_path)) == MINE


@pytest.mark.parametrize(
    "tag",
    """train_loss train/loss training_loss loss/train train_loss_step train_loss_epoch loss loss_step loss_epoch Loss
    Loss/train training/loss ptl/train_loss train/step/loss train-loss trainLoss train.loss loss_train nll elbo/train
    val_loss val/loss valid_loss valid/loss validation_loss loss/val loss/validation val_loss_epoch eval_loss dev_loss
    ptl/val_loss valid/step/loss val_loss/dataloader_idx_1 val_loss_step/dataloader_idx_0 elbo_validation
    lightning_debug/loss lightning_debug/loss/train validation/nll""".split(),
)
def test_usual_names_of_losses_are_on_the_chart(tag):
    # as TensorBoard's page asks its server: the patterns of a chart in one expression, matched at the beginning
    joined = "|".join(f"({pattern})" for pattern in _layout.LOSSES)
    assert re.match(joined, tag)


@pytest.mark.parametrize(
    "tag", "test_loss epoch lr-Adam train_acc val_accuracy hp_metric loss_weight trainer_loss_scale".split()
)
def test_other_names_are_not(tag):
    assert not re.match("|".join(f"({pattern})" for pattern in _layout.LOSSES), tag)


def test_what_a_sink_keeps_is_bounded():
    class Silent:
        def __getattr__(self, name):
            return lambda *_: None

    sink = TensorBoardSink(Silent())
    for step in range(3000):
        sink.on_evidence(ExampleCurve(values={f"family{step % 100} norm/{step % 77}": 1.0}, at=Moment(step=step)))
    assert sum(len(tags) for tags in sink._families.values()) <= 160
