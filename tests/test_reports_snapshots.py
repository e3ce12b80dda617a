"""Each form of the report, as it looks: see tests/snapshots."""

import json

import pytest

from lightning_debug.reports import console, html_report, json_report, markdown
from tests.snapshots import check
from tests.snapshots.example_rule import RULE
from tests.snapshots.examples import FULL, REPORTS, SLOW, SOFTMAX, record

PAGE = "/runs/version_0/lightning_debug/report.html"


@pytest.mark.parametrize("name", REPORTS)
def test_console_plain(name):
    check(f"console_{name}.txt", console.summary(REPORTS[name], PAGE))


def test_console_in_a_terminal():
    check("console_full.ansi.txt", console.to_ansi(console.rich_summary(FULL, PAGE * 3), width=80))


def test_console_lines():
    plain = [console.finding_line(item) for item in (SOFTMAX, SLOW)]
    coloured = [
        console.to_ansi(console.rich_finding_line(item), 80, wrap=False).rstrip("\n") for item in (SOFTMAX, SLOW)
    ]
    check("console_lines.txt", "\n".join([*plain, *coloured]))


@pytest.mark.parametrize("name", REPORTS)
def test_markdown(name):
    check(f"markdown_{name}.md", markdown.report(REPORTS[name]))


def test_markdown_of_a_finding():
    check("markdown_findings.md", markdown.findings([SOFTMAX, SLOW]))


@pytest.mark.parametrize("name", REPORTS)
def test_html(name):
    rules = {"LD201": RULE, "LD602": RULE}  # no rule of the package: its page may change
    check(f"html_{name}.html", html_report.render(REPORTS[name], find_rule=rules.get).partition("</style>")[2])


def test_json():
    text = json_report.to_json(FULL, record(steps=3), {"select": ("LD2",), "thresholds": {"LD299": {"tolerance": 0.1}}})
    json.loads(text, parse_constant=pytest.fail)
    check("report.json", text)
