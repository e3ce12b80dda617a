"""The console: what is printed when, where, and beside whose progress bars."""

import io
import sys

import pytest

from lightning_debug.evidence import Moment
from lightning_debug.finding import ERROR, Report, Skip
from lightning_debug.record import Record
from lightning_debug.reports.console import ConsoleSink, finding_line, is_fancy, rich_finding_line, summary, to_ansi
from tests.snapshots.examples import CLIPPED, FULL, HEALTHY, NAN, NOTED, SLOW, SOFTMAX, finding


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def shown(report, stream=None):
    stream = stream or io.StringIO()
    sink = ConsoleSink(stream=stream)
    for item in report.findings:
        sink.on_finding(item)
    sink.on_report(report, Record())
    return stream.getvalue()


@pytest.mark.parametrize("report", [HEALTHY, NOTED, Report()], ids=["healthy", "only information", "empty"])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_healthy_run_is_told_nothing(report, stream):
    assert shown(report, stream()) == ""


def test_a_finding_is_one_line_and_the_summary_comes_once():
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream)
    sink.on_finding(SOFTMAX)
    assert stream.getvalue().count("\n") == 1
    report = Report((SOFTMAX,), status="finished")
    sink.on_report(report, Record())
    first = stream.getvalue()
    sink.on_report(report, Record())
    sink.on_report(Report((SOFTMAX, CLIPPED), status="finished"), Record())
    assert stream.getvalue() == first
    sink.on_report(Report((SOFTMAX, NAN), status="finished"), Record())
    assert "LD302" in stream.getvalue().removeprefix(first)


def test_what_was_told_and_holds_no_longer_is_taken_back_once():
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream)
    sink.on_finding(SOFTMAX)
    sink.on_finding(CLIPPED)  # information is not told before the end, so there is nothing to take back
    sink.on_report(HEALTHY, Record())
    sink.on_report(HEALTHY, Record())
    assert stream.getvalue().splitlines()[1:] == ["lightning_debug: LD201, told above, no longer holds at the end"]


def test_what_is_taken_back_has_its_reason():
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream)
    sink.on_finding(SOFTMAX)
    sink.on_report(Report((), (Skip("the scores are no probabilities any more", code="LD201"),), "finished"), Record())
    (line,) = stream.getvalue().splitlines()[1:]
    assert line.endswith("LD201, told above, no longer holds at the end: the scores are no probabilities any more")


def test_information_that_comes_after_the_summary_is_told():
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream)
    sink.on_finding(CLIPPED)
    assert stream.getvalue() == ""
    sink.on_report(Report((SOFTMAX, CLIPPED)), Record())
    sink.on_finding(finding("LD001", "probe-failed", CLIPPED.severity, "HtmlSink raises OSError", "HtmlSink"))
    assert "HtmlSink raises OSError" in stream.getvalue()


def test_one_fault_in_many_places_does_not_drown_the_rest():
    many = [finding("LD401", "eval-mode-in-training", ERROR, f"layer {n} is in eval", f"layer{n}") for n in range(40)]
    text = shown(Report((*many, SOFTMAX)))
    assert text.count("is in eval") == 6  # three lines, and three in the summary
    assert "and in layer3, layer4, layer5, layer6, layer7, layer8 and 31 more" in text
    assert "2 errors" in text


def test_many_causes_and_many_reasons_are_cut():
    causes = [finding(f"LD{100 + n}", "fault", ERROR, "It is so.", "net") for n in range(30)]
    skips = [Skip(f"part {n} is compiled", f"LD{300 + n}", "x", hindrance=True) for n in range(9)]
    skips += [Skip(f"no part {n}", f"LD{310 + n}", "x") for n in range(9)]
    text = summary(Report(tuple(causes), tuple(skips)))
    assert "and 18 more causes: LD112 fault, LD113 fault" in text
    assert text.count(" is compiled\n") == 3
    assert "no part" not in text
    assert "15 more rules that do not apply or lack evidence; the report names each reason" in text


def test_a_terminal_gets_colour_a_log_does_not(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in shown(FULL, Terminal())
    assert "\x1b[" not in shown(FULL)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in shown(FULL, Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not is_fancy(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    stream.encoding = "latin-1"
    assert not is_fancy(stream)


def test_markup_escape_codes_and_line_breaks_in_a_message_are_only_text():
    odd = finding("LD101", "shape-mismatch", ERROR, "[bold]x[/bold] got [3, 4]\nand \x1b[31m :smile: [/]", "net[0]")
    line = finding_line(odd)
    assert "\n" not in line
    assert "[bold]x[/bold] got [3, 4] and \\x1b[31m :smile: [/] [net[0], epoch 0, step 0]" in line
    coloured = to_ansi(rich_finding_line(odd), 400, wrap=False)
    for part in ("[bold]x[/bold]", "[3, 4]", "\\x1b[31m", ":smile:", "[/]", "[net[0]"):
        assert part in coloured


def test_a_run_that_fail_on_stopped_and_one_with_a_long_error():
    assert "; the run was stopped by fail_on\n" in summary(Report((SOFTMAX,), status="failed: FaultFound: LD201 x: y"))
    first = summary(Report((SOFTMAX,), status=f"failed: RuntimeError: {'long ' * 500}")).splitlines()[0]
    assert len(first) < 400


def test_a_symptom_names_its_cause():
    assert "warning LD602 learning-rate-too-low (follows from LD201)" in finding_line(SLOW)


def test_standard_error_is_looked_up_when_it_is_written_to(capsys):
    sink = ConsoleSink()
    sink.on_finding(SOFTMAX)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "LD201" in captured.err


def test_a_program_without_a_console(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    ConsoleSink().on_finding(SOFTMAX)


def test_the_report_is_named_only_if_it_was_written(tmp_path):
    page = tmp_path / "report.html"
    for present in (False, True):
        if present:
            page.write_text("x", encoding="utf-8")
        stream = io.StringIO()
        ConsoleSink(str(page), stream).on_report(FULL, Record())
        assert ("report     report.html" in stream.getvalue()) is present


def test_tqdm_bars_are_cleared_before_and_drawn_again_after(monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with tqdm.tqdm(total=10, file=stream, ascii=True, mininterval=0) as bar:
        bar.update(3)
        ConsoleSink().on_finding(SOFTMAX)
        text = stream.getvalue()
    before, _, after = text.partition("lightning_debug:")
    assert before.endswith(" \r")  # the bar is gone from the line
    assert "3/10" in after.partition("\n")[2]  # and back on the next


def test_rich_bars_move_aside(monkeypatch):
    progress = pytest.importorskip("rich.progress")
    from rich.console import Console

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    console = Console(file=stream, force_terminal=True, width=200)
    with progress.Progress(console=console, auto_refresh=False, redirect_stderr=True) as bars:
        bars.add_task("Epoch 0", total=3)
        bars.refresh()
        ConsoleSink().on_finding(SOFTMAX)
    before, _, after = stream.getvalue().partition("lightning_debug:")
    assert before.endswith("\x1b[2K\x1b[2m")  # through rich's console: the bar's line is cleared, and in colour
    assert "Epoch 0" in after


def test_evidence_is_not_printed():
    stream = io.StringIO()
    ConsoleSink(stream=stream).on_evidence(object())
    assert stream.getvalue() == ""


def test_where_and_when_of_validation():
    odd = finding("LD402", "x", ERROR, "m", "net", at=Moment(stage="validate", epoch=1, step=9, batch=2))
    assert finding_line(odd).endswith("[net, validation of epoch 1, batch 2]")


def test_without_tqdm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    ConsoleSink().on_finding(SOFTMAX)
    assert "LD201" in capsys.readouterr().err


def test_a_run_that_broke_off_says_once_that_the_rest_was_not_judged():
    broke = finding("LD101", "shape-mismatch", ERROR, "It does not fit.", "net")
    skips = tuple(Skip(f"reason {n}", f"LD{300 + n}", "x") for n in range(9))
    text = summary(Report((broke,), skips, status="failed: RuntimeError"))
    assert "not judged 9 rules, most of them because the run ended there" in text
    assert "reason 3" not in text
