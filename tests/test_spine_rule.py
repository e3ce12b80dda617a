"""Rules, their pages, the registry and selection."""

import sys
import types

import pytest

from lightning_debug import registry
from lightning_debug import rules as rules_package
from lightning_debug.evidence import RuleFailure, RunContext
from lightning_debug.finding import ERROR, INFO
from lightning_debug.record import Record
from lightning_debug.registry import Selection, UnknownRule, all_rules, get
from lightning_debug.rule import SECTIONS, Page, rule


def test_the_decorator_returns_the_function_untouched():
    def some_fault(record, *, factor=2.0):
        yield from ()

    assert rule("LD299", severity=ERROR, needs=RunContext, explains=("LD602",))(some_fault) is some_fault
    one = some_fault.__rule__
    assert (one.code, one.name, one.severity, one.explains) == ("LD299", "some-fault", ERROR, ("LD602",))
    assert one.needs == (RunContext,)
    assert one.thresholds == {"factor": 2.0}
    assert list(some_fault(Record())) == []


def test_several_needs():
    @rule("LD299", severity=INFO, needs=(RunContext, RuleFailure))
    def some_fault(record):
        return ()

    assert some_fault.__rule__.needs == (RunContext, RuleFailure)
    assert some_fault.__rule__.thresholds == {}


@pytest.mark.parametrize("code", ["201", "LD1", "LD2010", "ld201", "LDabc", ""])
@pytest.mark.parametrize("place", ["code", "explains"])
def test_a_malformed_code_is_refused(code, place):
    arguments = {"code": "LD299", "explains": (), place: code if place == "code" else (code,)}
    with pytest.raises(ValueError, match="is not two to eight capitals"):
        rule(severity=ERROR, needs=RunContext, **arguments)


def test_a_page_is_read_in_sections():
    page = Page.parse(
        """Title here.

        Prose before the first section belongs to no section.
        What it sees: one
            and two.
        Broken:
            class A:
                x: int = 1

            How to fix: is code here, because it is indented
        Repaired:
            pass
        """
    )
    assert page.title == "Title here."
    assert page["What it sees"] == "one\nand two."
    assert page["Broken"] == "class A:\n    x: int = 1\n\nHow to fix: is code here, because it is indented"
    assert list(page.sections) == ["What it sees", "Broken", "Repaired"]


def test_the_page_of_a_rule_is_its_module():
    page = get("LD001").page
    assert page.title == sys.modules["lightning_debug.rules.ld001_probe_failed"].__doc__.splitlines()[0]
    assert set(SECTIONS[:-1]) <= set(page.sections)


def test_rules_are_sorted_and_unique():
    found = [one.code for one in all_rules()]
    assert found == sorted(set(found))
    assert len({one.name for one in all_rules()}) == len(found)


def test_rules_explain_rules_of_the_catalogue_form():
    for one in all_rules():
        assert one.code not in one.explains


@pytest.mark.parametrize("word", ["LD001", "ld001", "probe-failed", "Probe_Failed"])
def test_get_by_code_or_name(word):
    assert get(word).code == "LD001"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("prob-failed", "did you mean probe-failed"),
        ("LD00", "did you mean LD00"),
        ("failed", "did you mean"),
        ("zzzzzz", "`lightning-debug rules` lists them"),
    ],
)
def test_an_unknown_word_gets_a_hint(word, hint):
    with pytest.raises(UnknownRule, match=hint):
        get(word)


def test_selection():
    every = {one.code for one in all_rules()}
    assert {one.code for one in Selection().rules()} == every
    assert {one.code for one in Selection(select=("LD",)).rules()} == every
    assert [one.code for one in Selection(select=("ld00",)).rules()] == ["LD001", "LD002"]
    assert [one.code for one in Selection(select=("LD0", "probe_failed"), ignore=("LD001",)).rules()] == ["LD002"]
    assert [one.code for one in Selection(select=(" rule-failed ",)).rules()] == ["LD002"]
    assert Selection(ignore=("LD001",)).rules([get("LD001")]) == ()


@pytest.mark.parametrize("argument", ["select", "ignore"])
@pytest.mark.parametrize("word", ["LD9999", "LD00x", "probe", ""])
def test_selection_refuses_what_fits_no_rule(argument, word):
    with pytest.raises(UnknownRule, match=f"^{argument}: '{word}' fits no rule"):
        Selection(**{argument: (word,)})


RULE = '''"""Title."""
from lightning_debug.evidence import RunContext
from lightning_debug.finding import INFO
from lightning_debug.rule import rule
'''
ONE = (
    RULE
    + '''
@rule("{code}", severity=INFO, needs=RunContext)
def {name}(record):
    """Nothing."""
    return ()
'''
)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ld990_none": RULE}, "ld990_none must define one rule, and defines 0"),
        ({"ld990_two": ONE.format(code="LD990", name="two") + ONE.format(code="LD991", name="three")}, "defines 2"),
        (
            {"ld990_a": ONE.format(code="LD990", name="a"), "ld990_b": ONE.format(code="LD990", name="b")},
            "LD990 b and LD990 a clash",
        ),
        (
            {"ld990_a": ONE.format(code="LD990", name="a"), "ld991_a": ONE.format(code="LD991", name="a")},
            "LD991 a and LD990 a clash",
        ),
    ],
)
def test_the_registry_refuses_a_bad_rules_folder(files, message, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "_helper.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(rules_package, "__path__", [str(tmp_path)])
    monkeypatch.setattr(registry, "all_rules", all_rules)
    try:
        with pytest.raises(TypeError, match=message):
            all_rules.__wrapped__()
    finally:
        for name in files:
            sys.modules.pop(f"lightning_debug.rules.{name}", None)


def test_a_rule_that_is_imported_from_elsewhere_is_not_counted(tmp_path, monkeypatch):
    text = (
        ONE.format(code="LD990", name="mine") + "\nfrom lightning_debug.rules.ld001_probe_failed import probe_failed\n"
    )
    (tmp_path / "ld990_mine.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(rules_package, "__path__", [str(tmp_path)])
    try:
        assert [one.code for one in all_rules.__wrapped__()] == ["LD990"]
    finally:
        sys.modules.pop("lightning_debug.rules.ld990_mine", None)


def test_a_rule_without_docstring_has_an_empty_page():
    module = types.ModuleType("spine_bare")
    sys.modules["spine_bare"] = module

    def bare(record):
        return ()

    bare.__module__ = "spine_bare"
    try:
        page = rule("LD299", severity=INFO, needs=RunContext)(bare).__rule__.page
        assert (page.title, dict(page.sections)) == ("", {})
    finally:
        del sys.modules["spine_bare"]
