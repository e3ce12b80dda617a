"""report.json: strict, whole, and enough to judge again."""

import json
import math
import os

import pytest

from lightning_debug.evidence import Moment, ProbeFailure, to_plain
from lightning_debug.finding import ERROR, Report
from lightning_debug.judge import judge
from lightning_debug.record import Record
from lightning_debug.registry import all_rules
from lightning_debug.reports import sinks
from lightning_debug.reports._files import write_text
from lightning_debug.reports.json_report import SCHEMA, JsonSink, from_document, read, read_settings, to_json
from lightning_debug.session import Session
from lightning_debug.settings import Settings
from tests.snapshots.example_rule import RULE, ExampleFault
from tests.snapshots.examples import FULL, HEALTHY, NAN, SOFTMAX, finding, record


def test_it_comes_back_as_it_was(tmp_path):
    path = tmp_path / "report.json"
    JsonSink(str(path)).on_report(FULL, record())
    report, kept = read(path)
    assert report.context == FULL.context
    assert report.skips == FULL.skips
    assert report.status == FULL.status
    assert [item.key for item in report.findings] == [item.key for item in FULL.findings]
    assert [item.at for item in report.findings] == [item.at for item in FULL.findings]
    assert report.symptoms(report.headlines[0])[0].code == "LD602"
    assert report.worst == "error"
    assert kept.to_plain() == record().to_plain()


def test_judging_the_record_again_gives_the_same_findings(tmp_path):
    session = Session(
        Settings(strict=True, thresholds={}), [*all_rules(), RULE], [JsonSink(str(tmp_path / "report.json"))]
    )
    session.observe(ProbeFailure(where="X.setup", error="ValueError: x", traceback="t", at=Moment(step=3)))
    for step, value in enumerate((0.5, 1.0, 1.001, math.inf)):
        session.observe(ExampleFault(subject=f"net.{step}", row_sum=value, at=Moment(step=step)))
    written = session.close()
    assert {item.code for item in written.findings} == {"LD001", "LD299"}
    report, kept = read(tmp_path / "report.json")
    again = judge(kept, [*all_rules(), RULE], strict=True)
    assert to_plain(again.findings) == to_plain(report.findings) == to_plain(written.findings)
    assert again.skips == report.skips


def test_it_is_strict_json():
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    odd = finding(
        "LD302", "x", ERROR, "caf\udce9", "net", {"a": math.nan, "b": {"c": -math.inf}, "d": {3}, "e": (1, [2])}
    )
    text = to_json(Report((odd, NAN)), Record([ExampleFault(subject="x", row_sum=math.nan)]))
    text.encode("ascii")
    document = json.loads(text, parse_constant=refuse)
    assert document["report"]["findings"][0]["measured"] == {"a": "nan", "b": {"c": "-inf"}, "d": "{3}", "e": [1, [2]]}
    assert from_document(document)[1].last(ExampleFault).row_sum != 0.0


def test_the_settings_it_was_judged_under_are_told(tmp_path):
    settings = Settings(select=("LD0",), ignore=("LD002",))
    (sink,) = [sink for sink in sinks(settings, str(tmp_path), []) if isinstance(sink, JsonSink)]
    sink.on_report(HEALTHY, Record())
    assert read_settings(tmp_path / "report.json") == {"select": ["LD0"], "ignore": ["LD002"], "thresholds": {}}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "lightning_debug/2"}', '{"schema": 1}'])
def test_what_is_no_report_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"schema|holds no JSON"):
        read(path)


def test_evidence_of_another_version_is_left_out():
    document = json.loads(to_json(FULL, record(3)))
    document["record"]["evidence"].append({"kind": "FromTheFuture", "at": {}})
    document["report"]["findings"][0]["new_field"] = 1
    report, kept = from_document(document)
    assert len(kept) == 4
    assert report.findings[0].code == "LD201"


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "report.json"
    write_text(str(path), "old")
    assert path.read_text(encoding="utf-8") == "old"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(str(path), "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert os.listdir(path.parent) == ["report.json"]


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    session = Session(Settings(), [*all_rules(), RULE])
    session.sinks = sinks(session.settings, str(tmp_path / "file" / "folder"), [])
    session.observe(ExampleFault(subject="net", row_sum=1.0))
    report = session.close()
    failed = {item.subject for item in report.findings if item.code == "LD001"}
    assert failed == {"JsonSink.on_report", "HtmlSink.on_report"}
    told = capsys.readouterr().err
    assert "error LD299 example-fault" in told
    assert told.count("info LD001 probe-failed: JsonSink.on_report raises") == 1
    assert "report.html" not in told.partition("info LD001")[0]


def test_the_documentation_names_every_field():
    from pathlib import Path

    import lightning_debug.reports

    text = (Path(lightning_debug.reports.__file__).parent / "README.md").read_text(encoding="utf-8")
    document = json.loads(to_json(Report((SOFTMAX,), FULL.skips, FULL.context), record(2)))
    assert f"`{SCHEMA}`" in text

    def names(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield key
                yield from names(item)
        for item in value if isinstance(value, list) else []:
            yield from names(item)

    for part in ("settings", "report"):
        document["report"]["findings"][0]["measured"] = {}
        document["report"]["context"]["versions"] = {}
        assert [name for name in names(document[part]) if f"`{name}`" not in text] == []


def test_each_form_can_be_switched_off(tmp_path):
    names = ["JsonSink", "HtmlSink", "TensorBoardSink", "ConsoleSink"]
    switches = ["json", "html", "tensorboard", "console"]
    every = [type(sink).__name__ for sink in sinks(Settings(), str(tmp_path), [object()])]
    assert every == names
    for name, switch in zip(names, switches, strict=True):
        left = [type(sink).__name__ for sink in sinks(Settings(**{switch: False}), str(tmp_path), [object()])]
        assert left == [other for other in names if other != name]
    assert [type(sink).__name__ for sink in sinks(Settings(), None, [])] == ["ConsoleSink"]
