"""Settings: keyword arguments over the environment over pyproject.toml over the defaults, and no surprises."""

import dataclasses
import pickle
import sys
from pathlib import Path

import numpy
import pytest

from lightning_debug import settings as module
from lightning_debug.finding import INFO
from lightning_debug.registry import UnknownRule
from lightning_debug.rule import Rule
from lightning_debug.settings import Settings, SettingsError, from_environment, from_pyproject


def _judge(record, *, factor: float = 3.0, count: int = 2, strictly: bool = False, label: str | None = None):
    return ()


@pytest.fixture
def tunable(monkeypatch):
    """A rule with thresholds of every kind."""
    one = Rule("LD999", "tunable-rule", INFO, (), (), _judge)
    monkeypatch.setattr(module.registry, "get", {"LD999": one, "tunable-rule": one}.__getitem__)


def project(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


# ------------------------------------------------------------------------------------------------ sources


def test_defaults_stop_nothing_and_show_everything():
    settings = Settings.resolve()
    assert settings == Settings()
    assert settings.fail_on == "never"
    assert settings.report_dir is None
    assert (settings.console, settings.tensorboard, settings.html, settings.json) == (True,) * 4
    assert not settings.strict


def test_precedence(tmp_path, monkeypatch):
    project(tmp_path, '[tool.lightning_debug]\nfail_on = "warning"\nhtml = false\nselect = ["LD001"]\n')
    assert Settings.resolve().fail_on == "warning"
    monkeypatch.setenv("LIGHTNING_DEBUG_FAIL_ON", "error")
    monkeypatch.setenv("LIGHTNING_DEBUG_SELECT", "LD002")
    merged = Settings.resolve()
    assert (merged.fail_on, merged.html, merged.select) == ("error", False, ("LD002",))
    merged = Settings.resolve(fail_on="never", select=[], html=True)
    assert (merged.fail_on, merged.html, merged.select) == ("never", True, ())


def test_none_is_not_given(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "off")
    assert Settings.resolve(console=None).console is False


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Settings)])
def test_every_field_can_come_from_each_source(name, tmp_path, monkeypatch, tunable):
    values = {
        "select": ("LD001", '["LD001"]', ("LD001",)),
        "ignore": (" LD001 , probe-failed,", '["LD001", "probe-failed"]', ("LD001", "probe-failed")),
        "thresholds": ('{"LD999": {"factor": 4}}', "{LD999 = {factor = 4}}", {"LD999": {"factor": 4}}),
        "fail_on": ("error", '"error"', "error"),
        "report_dir": (str(tmp_path / "out"), f'"{tmp_path / "out"}"', str(tmp_path / "out")),
        "strict": ("1", "true", True),
        "experiment_seconds": ("4.5", "4.5", 4.5),
    }
    text, toml, expected = values.get(name, ("no", "false", False))
    folder = project(tmp_path / "project", f"[tool.lightning_debug]\n{name} = {toml}\n")
    assert getattr(Settings.resolve(folder), name) == expected
    monkeypatch.setenv(f"LIGHTNING_DEBUG_{name.upper()}", text)
    assert getattr(Settings.resolve(tmp_path), name) == expected
    monkeypatch.delenv(f"LIGHTNING_DEBUG_{name.upper()}")
    assert getattr(Settings.resolve(tmp_path, **{name: expected}), name) == expected


# ------------------------------------------------------------------------------------------------ environment


@pytest.mark.parametrize("word", ["1", "true", "TRUE", " yes ", "On"])
def test_true_words(word):
    assert from_environment({"LIGHTNING_DEBUG_STRICT": word}) == {"strict": True}


@pytest.mark.parametrize("word", ["0", "false", "False", " no", "OFF"])
def test_false_words(word):
    assert from_environment({"LIGHTNING_DEBUG_HTML": word}) == {"html": False}


@pytest.mark.parametrize("word", ["", "  "])
def test_an_empty_variable_is_not_set(word):
    assert (
        from_environment({f"LIGHTNING_DEBUG_{item.name.upper()}": word for item in dataclasses.fields(Settings)}) == {}
    )


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("LIGHTNING_DEBUG_HTML", "perhaps", "must be true or false"),
        ("LIGHTNING_DEBUG_FAIL_ON", "info", "never, warning, error"),
        ("LIGHTNING_DEBUG_THRESHOLDS", "{LD210", "must be JSON"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(variable, value, told):
    with pytest.raises(SettingsError) as raised:
        from_environment({variable: value})
    assert variable in str(raised.value)
    assert repr(value) in str(raised.value)
    assert told in str(raised.value)


def test_fail_on_is_read_in_any_case():
    assert from_environment({"LIGHTNING_DEBUG_FAIL_ON": "Error"}) == {"fail_on": "error"}


# ------------------------------------------------------------------------------------------------ pyproject.toml


def test_the_nearest_table_counts_not_the_nearest_file(tmp_path):
    project(tmp_path, "[tool.lightning_debug]\nhtml = false\n")
    inner = project(tmp_path / "package", "[tool.ruff]\nline-length = 100\n")
    assert from_pyproject(inner) == {"html": False}
    project(inner / "deeper", "[tool.lightning_debug]\njson = false\n")
    assert from_pyproject(inner / "deeper" / "deepest") == {"json": False}


@pytest.mark.parametrize("spelling", ["lightning_debug", "lightning-debug"])
def test_both_spellings_and_dashes_in_keys(tmp_path, spelling):
    project(tmp_path, f'[tool.{spelling}]\nfail-on = "error"\n')
    assert from_pyproject(tmp_path) == {"fail_on": "error"}


def test_report_dir_is_relative_to_the_file_that_says_it(tmp_path, monkeypatch):
    project(tmp_path, '[tool.lightning_debug]\nreport_dir = "reports"\n')
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert Settings.resolve().report_dir == str(tmp_path / "reports")
    project(tmp_path, '[tool.lightning_debug]\nreport_dir = "~/reports"\n')
    assert Settings.resolve().report_dir == str(Path.home() / "reports")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.lightning_debug]\nselct = []\n", "'selct'"),
        ("[tool.lightning_debug]\nhtml = 3\n", "true or false"),
        ("[tool.lightning_debug]\nselect = [1]\n", "codes or names"),
        ("[tool.lightning_debug]\nfail_on = true\n", "never, warning, error"),
        ("[tool.lightning_debug]\nreport_dir = 3\n", "must be a path"),
        ("[tool.lightning_debug]\nhtml = \n", "pyproject.toml"),
        ("[tool]\nlightning_debug = 3\n", "one table"),
        ("[tool.lightning_debug]\n[tool.lightning-debug]\n", "one table"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, told):
    project(tmp_path, text)
    with pytest.raises(SettingsError) as raised:
        Settings.resolve(tmp_path)
    assert str(tmp_path / "pyproject.toml") in str(raised.value)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    "text", ["<<<<<<< HEAD\n", "[tool\n", "tool = 3\n", '[project]\nname = "lightning-debugging"\n']
)
def test_somebody_elses_file_breaks_nothing(tmp_path, text):
    project(tmp_path, text)
    assert from_pyproject(tmp_path) == {}


def test_a_file_in_another_encoding_breaks_nothing(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes("[tool.x]\nname = 'é'\n".encode("latin-1"))
    assert from_pyproject(tmp_path) == {}


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.lightning_debug]\nhtml = false\n", encoding="utf-8-sig")
    assert from_pyproject(tmp_path) == {"html": False}


def test_a_folder_named_like_the_file_breaks_nothing(tmp_path):
    (tmp_path / "pyproject.toml").mkdir()
    assert from_pyproject(tmp_path) == {}


def test_an_unreadable_parent_breaks_nothing(tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert from_pyproject(project(tmp_path, "[tool.lightning_debug]\nhtml = false\n")) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be removed there")
def test_a_deleted_working_directory_breaks_nothing(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert Settings.resolve() == Settings()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "words", ["LD001,LD002", ["LD001", "LD002"], ("LD001", "LD002"), {"LD001": 0, "LD002": 0}.keys()]
)
def test_selections_in_every_natural_form(words):
    assert Settings.resolve(select=words).select == ("LD001", "LD002")
    assert Settings(select=words).select == ("LD001", "LD002")
    assert set(Settings(ignore=set(words.split(",") if isinstance(words, str) else words)).ignore) == {"LD001", "LD002"}


@pytest.mark.parametrize("words", [3, [1], b"LD001", {"LD001": 1}, [None], True])
def test_selections_that_are_none(words):
    with pytest.raises(SettingsError, match="codes or names"):
        Settings.resolve(select=words)


def test_an_unknown_rule_says_what_was_meant():
    with pytest.raises(UnknownRule, match=r"select: 'probe-faild' fits no rule; did you mean probe-failed"):
        Settings.resolve(select="probe-faild")
    with pytest.raises(UnknownRule, match="ignore: 'LD9999'"):
        Settings.resolve(ignore="LD9999")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"console": 1}, "console=1 must be true or false"),
        ({"console": "maybe"}, "console='maybe' must be true or false"),
        ({"fail_on": "errors"}, "fail_on='errors' is not accepted; choose from never, warning, error"),
        ({"fail_on": 2}, "fail_on=2"),
        ({"report_dir": 3}, "report_dir=3 must be a path"),
        ({"report_dir": " "}, "report_dir=' ' must be a path"),
        ({"threshold": {}}, "'threshold' is no setting; accepted: select, "),
        ({"thresholds": [1]}, "thresholds=\\[1\\] must map rules"),
        ({"thresholds": {1: {}}}, "must map rules"),
    ],
)
def test_wrong_values_are_named_with_what_is_accepted(given, told):
    with pytest.raises(SettingsError, match=told):
        Settings.resolve(**given)


def test_a_path_object_is_a_report_dir(tmp_path):
    assert Settings.resolve(report_dir=tmp_path).report_dir == str(tmp_path)
    assert Settings(report_dir="~").report_dir == str(Path.home())


def test_thresholds_by_code_and_name_meet_under_the_code(tunable):
    given = {"LD999": {"factor": 4}, "tunable-rule": {"count": 3}}
    assert Settings(thresholds=given).thresholds == {"LD999": {"factor": 4, "count": 3}}
    assert given == {"LD999": {"factor": 4}, "tunable-rule": {"count": 3}}


@pytest.mark.parametrize("value", [2, 2.5, 0, -1.0, float("inf"), numpy.float32(2), numpy.int64(3)])
def test_numbers_are_thresholds(tunable, value):
    assert Settings(thresholds={"LD999": {"factor": value}}).thresholds["LD999"]["factor"] == value


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"factor": "4"}, "must be a number"),
        ({"factor": True}, "must be a number"),
        ({"factor": float("nan")}, "must be a number"),
        ({"strictly": 1}, "must be true or false"),
        ({"factr": 4}, r"has no 'factr'; LD999 tunable-rule accepts: factor \(default 3.0\), count"),
        (4, r"must map names to values; accepted: factor \(default 3.0\)"),
    ],
)
def test_wrong_thresholds(tunable, values, told):
    with pytest.raises(SettingsError, match=told):
        Settings(thresholds={"LD999": values})


def test_thresholds_that_default_to_none_take_anything(tunable):
    assert Settings(thresholds={"LD999": {"label": "x"}}).thresholds == {"LD999": {"label": "x"}}


def test_a_rule_without_thresholds_accepts_none():
    assert Settings(thresholds={"LD001": {}}).thresholds == {"LD001": {}}
    with pytest.raises(SettingsError, match="LD001 probe-failed accepts: none"):
        Settings(thresholds={"LD001": {"x": 1}})


def test_settings_can_be_pickled_and_not_changed():
    settings = Settings(select=("LD0",), fail_on="error", report_dir="x")
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.fail_on = "never"
