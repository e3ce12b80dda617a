"""The picture of learning rates to come."""

from lightning_debug.evidence import Moment
from lightning_debug.evidence.optimization import UpdateAudit
from lightning_debug.evidence.schedules import ScheduleForecast
from lightning_debug.finding import ERROR, Finding, Report
from lightning_debug.record import Record
from lightning_debug.reports._schedules import schedule_charts
from lightning_debug.reports.html_report import draw_plots
from lightning_debug.reports.tensorboard import TensorBoardSink

SEEN = ScheduleForecast(
    scheduler="OneCycleLR",
    optimizer="Adam",
    interval="epoch",
    epochs=3,
    steps_per_epoch=4,
    optimizer_steps=12,
    scheduler_steps=3,
    rates=((0, 4e-4), (4, 5e-4), (8, 6e-4)),
    other_rates=tuple((step, 1e-2 / (1 + step)) for step in range(12)),
)
FOUND = Finding(
    "LD604", "scheduler-at-wrong-interval", ERROR, "message", "OneCycleLR", {"intended": "step"}, "fix", Moment()
)


def test_what_was_meant_stands_beside_what_will_happen():
    [chart] = schedule_charts([SEEN], [FOUND])
    will, meant = chart.curves
    assert will.points == ((0, 4e-4), (3, 4e-4), (4, 5e-4), (7, 5e-4), (8, 6e-4), (11, 6e-4))
    assert (will.dashed, meant.dashed, meant.points) == (False, True, SEEN.other_rates)
    assert chart.axis == "optimizer step"


def test_a_schedule_that_is_right_stands_alone():
    [chart] = schedule_charts([SEEN, SEEN])
    assert [curve.tag for curve in chart.curves] == ["will happen: stepped once an epoch"]
    assert not schedule_charts([ScheduleForecast(scheduler="StepLR")])


def test_the_page_draws_it():
    plots, missing = draw_plots(Report(findings=(FOUND,)), Record([SEEN]))
    assert [plot.title for plot in plots] == ["learning rate of OneCycleLR"]
    assert "meant: stepped after each step" in plots[0].svg
    assert not missing


class Writer:
    def __init__(self):
        self.images = []

    def add_image(self, tag, pixels, step, dataformats):
        self.images.append((tag, pixels.shape[-1], step, dataformats))

    def __getattr__(self, name):
        return lambda *_, **__: None


def test_tensorboard_shows_it_at_the_first_step_once():
    writer = Writer()
    sink = TensorBoardSink(writer)
    sink.on_evidence(SEEN)
    sink.on_finding(FOUND)
    assert not writer.images
    sink.on_evidence(UpdateAudit(at=Moment(step=1)))
    sink.on_evidence(UpdateAudit(at=Moment(step=2)))
    assert writer.images == [("lightning_debug/learning_rate_of_OneCycleLR", 3, 0, "HWC")]
