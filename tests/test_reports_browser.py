"""What a person sees: the page and TensorBoard in a headless Chromium, on files and the loopback device only."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
from torch.utils.tensorboard import SummaryWriter

from lightning_debug.evidence import Moment
from lightning_debug.record import Record
from lightning_debug.reports.html_report import HtmlSink
from lightning_debug.reports.tensorboard import TensorBoardSink
from tests.snapshots.browser import CHROMIUM, page
from tests.snapshots.examples import FULL, HEALTHY, ExampleCurve, record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: nothing to look through"),
]
BORDER = "getComputedStyle(document.querySelector('.card')).borderLeftColor"


@pytest.fixture
def tab(tmp_path):
    with page(tmp_path / "profile") as opened:
        yield opened


@pytest.fixture
def server(tmp_path):
    """A TensorBoard over one run, as a user would start it."""
    folder = tmp_path / "runs"
    writer = SummaryWriter(str(folder / "version_0"))
    sink = TensorBoardSink(writer)
    for step in range(20):
        writer.add_scalar("train_loss_step", 2.0 / (step + 1), step)
        if step % 5 == 4:
            writer.add_scalar("val_loss", 2.2 / (step + 1), step)
        sink.on_evidence(ExampleCurve(values={"gradient_norm": 1.0 + step}, at=Moment(step=step)))
    for item in FULL.findings:
        sink.on_finding(item)
    sink.on_report(FULL, Record())
    writer.close()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0", "--host", "127.0.0.1"]
    output = tmp_path / "tensorboard.txt"
    with output.open("w", encoding="utf-8") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield _address(process, output)
        finally:
            process.terminate()
            process.wait()


def _address(process, output, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"TensorBoard \S+ at (http://\S+?)/? ", output.read_text(encoding="utf-8"))
        if found:
            address = found[1]
            if get(address, "/data/plugin/custom_scalars/layout"):  # the event files have been read
                return address
        time.sleep(0.25)
    raise TimeoutError(f"tensorboard did not come up: {output.read_text(encoding='utf-8')}")


def get(address, path, **query):
    url = f"{address}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def test_the_page_as_rendered(tab, tmp_path):
    path = tmp_path / "report.html"
    HtmlSink(str(path)).on_report(FULL, record())
    tab.open(path.as_uri())
    text = tab.wait_for("What is not known", "loss/validation", "gradient norm")
    for item in FULL.findings:
        assert item.code in text
        assert item.subject in text
    assert "1.2e-07" in text
    assert tab.requests == [path.as_uri()]  # the page alone: nothing else is asked for
    assert tab.evaluate("document.querySelectorAll('svg').length") == 2
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # nothing sticks out
    assert tab.evaluate("document.querySelector('svg').getBoundingClientRect().width") > 600
    assert tab.evaluate("document.querySelector('details').open") is False
    light = tab.evaluate(BORDER)
    assert len(tab.picture(tmp_path / "light.png")) > 20_000
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.evaluate(BORDER) != light
    assert len(tab.picture(tmp_path / "dark.png")) > 20_000


def test_a_narrow_window_needs_no_sideways_scrolling(tab, tmp_path):
    path = tmp_path / "report.html"
    HtmlSink(str(path)).on_report(FULL, record())
    tab.call("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=False)
    tab.open(path.as_uri())
    tab.wait_for("What is not known")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_healthy_page_as_rendered(tab, tmp_path):
    path = tmp_path / "report.html"
    HtmlSink(str(path)).on_report(HEALTHY, record())
    tab.open(path.as_uri())
    tab.wait_for("No fault found", "Nothing wrong was found in this run.", "the model is compiled")


def test_tensorboard_as_rendered(tab, server, tmp_path):
    run = "version_0"
    assert run in get(server, "/data/plugin/text/tags")
    tag = "lightning_debug/LD201 softmax-before-cross-entropy/text_summary"
    (text,) = get(server, "/data/plugin/text/text", run=run, tag=tag)
    assert "<code>cross_entropy</code>" in text["text"]
    assert "<td>1.2e-07</td>" in text["text"]

    (category,) = get(server, "/data/plugin/custom_scalars/layout")["category"]
    assert [chart["title"] for chart in category["chart"]] == ["loss: training and validation", "gradient norm"]
    joined = "|".join(f"({pattern})" for pattern in category["chart"][0]["multiline"]["tag"])
    curves = get(server, "/data/plugin/custom_scalars/scalars", run=run, tag=joined)
    assert curves["regex_valid"]
    assert set(curves["tag_to_events"]) == {"train_loss_step", "val_loss"}

    tab.open(f"{server}/#custom_scalars")
    tab.wait_for("loss: training and validation", "Matches (2)", "val_loss", "gradient norm", "Matches (1)")
    assert len(tab.picture(tmp_path / "custom_scalars.png")) > 20_000
    tab.open("about:blank")
    tab.open(f"{server}/#text")
    tab.wait_for("LD201 softmax-before-cross-entropy", "which applies log-softmax itself", "Return the logits")
    assert len(tab.picture(tmp_path / "text.png")) > 20_000
