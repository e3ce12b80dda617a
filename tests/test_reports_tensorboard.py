"""TensorBoard: what a real Trainer's event files hold, read back with TensorBoard's own reader."""

import re

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from lightning_debug import DebugCallback
from lightning_debug.callbacks._lightning import moment
from lightning_debug.evidence import Moment
from lightning_debug.evidence.curves import EpochValues
from lightning_debug.finding import ERROR, Report
from lightning_debug.record import Record
from lightning_debug.reports import _layout
from lightning_debug.reports.tensorboard import TensorBoardSink
from lightning_debug.session import Session
from lightning_debug.settings import Settings
from tests.snapshots.eventfiles import events, layouts, texts
from tests.snapshots.example_rule import RULE, ExampleFault
from tests.snapshots.examples import ExampleCurve, finding

LOSS_CHART = "loss: training and validation"
MINE = {"mine": {"both": ["Multiline", ["a", "b"]], "band": ["Margin", ["mean", "low", "high"]]}}


class Model(pl.LightningModule):
    def __init__(self, stop_at=None, layout_in=None):
        super().__init__()
        self.net = torch.nn.Linear(8, 2)
        self.stop_at, self.layout_in = stop_at, layout_in

    def training_step(self, batch, batch_idx):
        if self.stop_at is not None and self.global_step == 3:
            raise self.stop_at
        if self.layout_in == "step":
            self.logger.experiment.add_custom_scalars(MINE)
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_start(self):
        if self.layout_in == "start":
            self.logger.experiment.add_custom_scalars(MINE)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Probe(DebugCallback):
    """A value at each step, and a fault at step 2."""

    rule = RULE

    def setup(self, trainer, pl_module, stage):
        self.session.add_rules([self.rule] if self.rule else [])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        at = moment(trainer)
        self.session.observe(ExampleCurve(values={"gradient_norm": 1.0 + at.step}, at=at))
        if at.step == 2:
            self.session.observe(ExampleFault(subject="net", row_sum=1.0, at=at))


class HealthyProbe(Probe):
    rule = None


def fit(model, logger, *, probe=None, **options):
    inputs = torch.randn(64, 8)
    data = TensorDataset(inputs, (inputs[:, 0] > 0).long())
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, **quiet, **options},
        logger=logger,
        callbacks=[probe or Probe()],
    )
    trainer.fit(model, DataLoader(data, 16, shuffle=True), DataLoader(data, 32))
    return trainer


def test_text_curves_and_one_layout(tmp_path):
    logger = TensorBoardLogger(str(tmp_path), name="run")
    fit(Model(), logger)
    read = events(logger.log_dir)
    told = texts(read)
    assert set(told) == {"lightning_debug/LD299 example-fault", "lightning_debug/report"}
    (text,) = told["lightning_debug/LD299 example-fault"]
    assert r"Rows of the loss's input \[64, 10\] sum to 1.000" in text
    assert "| row sum | 1 |" in text
    assert "**Fix:** Take `softmax` out of `forward`." in text
    (item,) = read.Tensors("lightning_debug/LD299 example-fault/text_summary")
    assert item.step == 2
    assert told["lightning_debug/report"][0].startswith("## 1 error\n\nThe run finished.")
    norms = read.Scalars("lightning_debug/gradient_norm")
    assert [(item.step, item.value) for item in norms] == [(step, 1.0 + step) for step in range(8)]
    assert layouts(read) == [{"lightning_debug": [LOSS_CHART, "gradient norm"]}]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()], ids=["exception", "ctrl-c"])
def test_a_run_that_dies_is_told(tmp_path, error):
    logger = TensorBoardLogger(str(tmp_path), name="run")
    with pytest.raises((ValueError, SystemExit)):
        fit(Model(stop_at=error), logger)
    told = texts(events(logger.log_dir))
    assert "lightning_debug/LD299 example-fault" in told
    how = "The run failed with ValueError: bad." if isinstance(error, ValueError) else "The run was interrupted."
    assert how in told["lightning_debug/report"][0]
    for name in ("report.html", "report.json"):
        assert (tmp_path / "run" / "version_0" / "lightning_debug" / name).is_file()


@pytest.mark.parametrize("layout_in", ["start", "step"])
def test_the_users_layout_is_kept(tmp_path, layout_in):
    logger = TensorBoardLogger(str(tmp_path), name="run")
    fit(Model(layout_in=layout_in), logger)
    assert layouts(events(logger.log_dir))[-1] == {
        "mine": ["both", "band"],
        "lightning_debug": [LOSS_CHART, "gradient norm"],
    }
    assert _layout.written(logger.log_dir)["mine"] == MINE["mine"]


def test_a_healthy_run_has_a_report_and_the_chart(tmp_path):
    logger = TensorBoardLogger(str(tmp_path), name="run")
    fit(Model(), logger, probe=HealthyProbe())
    read = events(logger.log_dir)
    assert list(texts(read)) == ["lightning_debug/report"]
    assert texts(read)["lightning_debug/report"][0].startswith("## No fault found")
    assert len(layouts(read)) == 1


def test_several_loggers(tmp_path):
    loggers = [
        TensorBoardLogger(str(tmp_path), name="a"),
        CSVLogger(str(tmp_path), name="c"),
        TensorBoardLogger(str(tmp_path), name="b"),
    ]
    fit(Model(), loggers)
    for logger in (loggers[0], loggers[2]):
        assert "lightning_debug/LD299 example-fault" in texts(events(logger.log_dir))
    assert (tmp_path / "a" / "version_0" / "lightning_debug" / "report.json").is_file()


@pytest.mark.parametrize("logger", ["csv", "none", "default"])
def test_other_loggers(tmp_path, capsys, logger):
    given = {"csv": CSVLogger(str(tmp_path), name="c"), "none": False, "default": True}[logger]
    trainer = fit(Model(), given, default_root_dir=str(tmp_path))
    folder = tmp_path if logger == "none" else trainer.log_dir
    assert (tmp_path / folder / "lightning_debug" / "report.html").is_file()
    printed = capsys.readouterr()
    assert "error LD299 example-fault" in printed.err
    assert "LD299" not in printed.out  # a script's own output can still be parsed


def test_fast_dev_run_tells_and_writes_nothing(tmp_path, capsys):
    fit(Model(), TensorBoardLogger(str(tmp_path), name="run"), default_root_dir=str(tmp_path), fast_dev_run=3)
    assert "error LD299 example-fault" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == []


def test_barebones_is_left_alone(tmp_path, capsys):
    inputs = torch.randn(64, 8)
    loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), 16)
    model = Model()
    model.log = lambda *_, **__: None
    model.validation_step = None
    pl.Trainer(barebones=True, max_epochs=1, accelerator="cpu", callbacks=[Probe()]).fit(model, loader)
    assert "lightning_debug" not in capsys.readouterr().err
    assert list(tmp_path.rglob("report.*")) == []


class Broken:
    """A writer whose every method raises."""

    log_dir = None

    def __getattr__(self, name):
        raise RuntimeError("the writer is broken")


def test_a_writer_that_raises_leaves_the_others_and_is_told(tmp_path):
    good = SummaryWriter(str(tmp_path))
    session = Session(Settings(console=False), [RULE, *_ld0()], [TensorBoardSink(Broken()), TensorBoardSink(good)])
    session.observe(ExampleCurve(values={"x": 1.0}, at=Moment(step=1)))
    session.observe(ExampleFault(subject="net", row_sum=1.0, at=Moment(step=2)))
    report = session.close()
    assert [item.code for item in report.findings] == ["LD299", "LD001"]
    assert "lightning_debug/LD299 example-fault" in texts(events(tmp_path))


def _ld0():
    from lightning_debug.registry import all_rules

    return [one for one in all_rules() if one.code == "LD001"]


def test_findings_of_one_code_stand_in_one_text_that_is_never_lost(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    sink = TensorBoardSink(writer)
    for step, subject in ((7, "late"), (3, "early"), (3, "same")):
        sink.on_finding(finding("LD401", "eval-mode-in-training", ERROR, "m", subject, at=Moment(step=step)))
    read = events(tmp_path)
    items = read.Tensors("lightning_debug/LD401 eval-mode-in-training/text_summary")
    assert [item.step for item in items] == [7, 7, 7]  # steps that went back would hide what was there
    last = items[-1].tensor_proto.string_val[0].decode()
    assert all(word in last for word in ("late", "early", "same"))


def test_the_losses_are_one_picture_with_the_verdict_marked(tmp_path):
    values = [
        EpochValues(train_loss=1 / (epoch + 1), val_loss=1.0, at=Moment(epoch=epoch, step=10 * epoch))
        for epoch in range(5)
    ]
    verdict = finding(
        "LD707", "overfitting-from-epoch", ERROR, "m", "val_loss", {"lowest_epoch": 2}, at=Moment(step=40)
    )
    for folder, kept in (("few", values[:1]), ("all", values)):
        writer = SummaryWriter(str(tmp_path / folder))
        TensorBoardSink(writer).on_report(Report((verdict,)), Record(kept))
        writer.close()
    assert not events(tmp_path / "few").Tags()["images"], "one point is no curve"
    (image,) = events(tmp_path / "all").Images("lightning_debug/curves")
    assert (image.width, image.height) == (1036, 388)
    assert len(image.encoded_image_string) > 5000


def test_what_a_text_holds_is_only_text(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    odd = finding("LD101", "shape-mismatch", ERROR, "<b> [3, 4] | caf\udce9 `a|b`", "a|b_c*", {"x": "<i>\n|"})
    TensorBoardSink(writer).on_finding(odd)
    from tensorboard.plugin_util import markdown_to_safe_html

    (text,) = texts(events(tmp_path))["lightning_debug/LD101 shape-mismatch"]
    page = markdown_to_safe_html(text)
    shown = re.sub(r"<[^>]*>", "", page)
    assert "&lt;b&gt; [3, 4] | caf\\udce9 a|b" in shown
    assert "a|b_c*" in shown
    assert page.count("<tr>") == 3
