"""report.html: self-contained, escaped, complete, with curves."""

import html.parser
import re
import sys

import pytest

from lightning_debug.evidence import Evidence, Moment
from lightning_debug.finding import ERROR, INFO, Report
from lightning_debug.record import Record
from lightning_debug.registry import all_rules
from lightning_debug.reports._curves import Curve, charts, curves
from lightning_debug.reports.html_report import HtmlSink, draw_plots, prose, render
from lightning_debug.reports.plots import draw, marks
from tests.snapshots.example_rule import RULE
from tests.snapshots.examples import CONTEXT, FULL, HEALTHY, NAN, ExampleCurve, finding, record

VOID = {"meta", "br", "hr", "img", "link"}


class Outline(html.parser.HTMLParser):
    """Checks that elements nest, and gathers attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.attributes, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(page):
    parsed = Outline()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    return parsed


def written(tmp_path, report, kept):
    HtmlSink(str(tmp_path / "report.html")).on_report(report, kept)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_it_asks_nothing_of_a_network(tmp_path):
    page = written(tmp_path, FULL, record())
    parsed = outline(page)
    assert "script" not in parsed.tags
    assert "link" not in parsed.tags
    assert "default-src 'none'" in page
    names = ("src", "srcset", "href", "xlink:href", "data", "action")
    loads = [value for tag, name, value in parsed.attributes if name in names and tag != "a"]  # a link loads nothing
    assert all(value.startswith("#") for value in loads), loads
    assert not re.search(r"url\((?!#)|@import|@font-face", page)


def test_what_the_user_wrote_is_only_text():
    odd = finding(
        "LD101",
        "shape-mismatch",
        ERROR,
        "<script>alert(1)</script> & `<img src=x>`",
        "<b>net</b>",
        {"<i>k</i>": "<u>v</u>\n\x1b[31m"},
        "`</code><script>`",
    )
    parsed = outline(render(Report((odd,), status="failed: E: <script>"), plots_missing="<script>"))
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    text = "".join(parsed.text)
    for part in ("<script>alert(1)</script> &", "<img src=x>", "<b>net</b>", "<u>v</u>", "\\x1b[31m", "E: <script>"):
        assert part in text


def test_every_part_of_a_finding_is_there():
    text = "".join(outline(render(FULL, find_rule={"LD201": RULE}.get)).text)
    for item in FULL.findings:
        assert item.code in text
        assert item.message.replace("`", "") in text
        assert item.fix.replace("`", "") in text
        assert item.subject in text
    for part in (
        "1.2e-07",
        "64, 10",
        "epoch 3, step 80",
        "Broken",
        "Repaired",
        "What it sees",
        "the model is compiled",
    ):
        assert part in text


def test_every_page_of_the_package_is_shown():
    for one in all_rules():
        shown = "".join(outline(render(Report((finding(one.code, one.name, INFO, "m", "s"),)))).text)
        assert one.page.title in shown
        for line in one.page["Broken"].splitlines():
            assert line in shown


def test_an_unknown_code_has_no_page_and_harms_nothing():
    assert "About LD999" not in render(Report((finding("LD999", "from-the-future", ERROR, "m", "s"),)))


def test_a_healthy_run_is_said_to_be_plainly():
    assert "Nothing wrong was found in this run." in render(HEALTHY)
    assert "Nothing wrong was found in this run." not in render(FULL)
    failed = render(Report((), (), CONTEXT, "failed: ValueError: x"))
    assert "Nothing wrong was found in this run." not in failed
    assert "Nothing wrong was found up to here." in failed


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report(status="finished"), "Training did not start"),
        (Report((NAN,), (), CONTEXT, "interrupted"), "what comes later was not seen"),
        (Report((), (), CONTEXT, "running"), "was not over"),
        (Report((finding("LD001", "probe-failed", INFO, "m", "X.setup"),)), "A probe of this tool failed (X.setup)"),
        (Report((finding("LD002", "rule-failed", INFO, "m", "LD201"),)), "A rule of this tool failed (LD201)"),
    ],
)
def test_what_is_not_known_is_said(report, words):
    assert words in render(report)


def test_curves_are_drawn_with_the_moments_of_findings():
    plots, missing = draw_plots(FULL, record())
    assert [plot.title for plot in plots] == ["loss", "gradient norm"]
    assert missing == ""
    loss = plots[0]
    for word in ("loss/train", "loss/validation", "LD302", "LD201", "var(--curve-0)", "var(--curve-1)", "var(--ink)"):
        assert word in loss.svg
    assert "#0a0" not in loss.svg  # every colour is the page's
    assert "The middle of the run is not kept" in loss.note
    assert "NaN or infinite" in loss.note
    outline(f"<p>{loss.svg}</p>")


def test_values_can_be_read_off_a_chart_without_a_script():
    (chart,) = charts(
        [Curve("loss/<train>", tuple((step, 1 / (step + 1)) for step in range(1000))), Curve("loss/val", ((999, 0.5),))]
    )
    svg = draw(chart).svg
    assert 100 < svg.count('<g class="read">') <= 150
    assert "<title>step 999\nloss/&lt;train&gt; 0.001\nloss/val 0.5</title>" in svg
    assert "<script" not in svg
    outline(f"<p>{svg}</p>")


def test_a_verdict_is_marked_where_it_happened():
    at = Moment(stage="train", epoch=9, step=100)
    found = [
        finding("LD707", "x", ERROR, "m", "val_loss", {"lowest_epoch": 3}, at=at),
        finding("LD714", "x", INFO, "m", "epoch", {"epoch": 4}, at=at),
        finding("LD701", "x", ERROR, "m", "training loss", {"lowest_step": 12}, at=at),
    ]
    assert marks(found, {3: 40, 4: 50}) == ((12, "LD701: step 12"), (40, "LD707: epoch 3"), (50, "LD714: epoch 4"))
    assert (100, "LD707, LD714") in marks(found)


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    written(tmp_path, FULL, record())
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported(tmp_path):
    import subprocess

    script = (
        "import sys; from tests.snapshots.examples import FULL, record\n"
        "from lightning_debug.reports.html_report import draw_plots\n"
        "assert draw_plots(FULL, record())[0]; assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = re.sub(r"[/\\]tests[/\\][^/\\]*$", "", __file__)
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


def test_the_same_record_gives_the_same_page(tmp_path):
    assert written(tmp_path, FULL, record()) == written(tmp_path, FULL, record())


def test_without_curves_the_page_says_so(tmp_path, monkeypatch):
    assert "Nothing that was recorded has a value over steps." in written(tmp_path, HEALTHY, Record())
    monkeypatch.setattr("lightning_debug.reports.html_report.draw", lambda *_: 1 / 0)
    assert "The curves could not be drawn: division by zero" in written(tmp_path, HEALTHY, record())


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, 1.0)],
        [(0, float("nan"))],
        [(0, float("inf")), (1, 2.0)],
        [(5, 0.0), (5, 0.0)],
        [(0, -1e30), (1, 1e300)],
    ],
)
def test_odd_curves_are_drawn(points):
    (chart,) = charts([Curve("x", tuple(points))])
    assert draw(chart, ((0, "LD201"),)).svg.startswith("<svg")


def test_curves_of_a_long_run_break_where_the_record_does():
    kept = record(600)
    (loss, *_) = curves(kept)
    gaps = [index for index, (step, _) in enumerate(loss.points) if step < 0]
    assert gaps == [64]
    assert loss.points[63][0] == 63
    assert loss.points[65][0] == 408
    assert all(step >= 0 for curve in curves(record(200)) for step, _ in curve.points)


def test_a_rank_of_its_own_has_a_curve_of_its_own():
    kept = Record([ExampleCurve(values={"lightning_debug/loss": 1.0}, at=Moment(rank=rank)) for rank in (0, 1)])
    assert [curve.tag for curve in curves(kept)] == ["loss", "loss (rank 1)"]
    assert Evidence().scalars() == {}


def test_many_curves_are_cut():
    (chart,) = charts([Curve(f"norm/{n}", ((0, 1.0), (1, 2.0))) for n in range(40)])
    assert len(chart.curves) == 6
    assert "34 more curves" in draw(chart).note


def test_marks_gather_codes_and_leave_out_what_is_not_training():
    found = [finding("LD201", "x", ERROR, "m", str(n), at=Moment(step=4)) for n in range(2)]
    found += [finding(code, "x", ERROR, "m", "s", at=Moment(step=4)) for code in ("LD301", "LD302")]
    found += [finding("LD101", "x", ERROR, "m", "s", at=Moment(stage="setup"))]
    assert marks(found) == ((4, "LD201, LD301 …"),)


def test_prose():
    assert prose("one\ntwo\n\n- a\n  b\n- `c<d`") == "<p>one two</p>\n<ul><li>a b</li><li><code>c&lt;d</code></li></ul>"
    link = str(prose("see https://x.org/a?b=1&c=2."))
    assert link.startswith('<p>see <a href="https://x.org/a?b=1&amp;c=2" rel="noreferrer">')
    assert link.endswith("</a>.</p>")
