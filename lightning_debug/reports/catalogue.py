"""The catalogue of rules as a Markdown table: in the README, and printed by ``lightning-debug rules --markdown``.

``python -m lightning_debug.reports.catalogue README.md`` writes it between the two markers there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from lightning_debug.registry import all_rules
from lightning_debug.rule import Rule

BEGIN = "<!-- rules: written by python -m lightning_debug.reports.catalogue README.md -->"
END = "<!-- end of rules -->"


def markdown_table(rules: Iterable[Rule]) -> str:
    """A row for each rule, by code: code, name, severity and the title of its page.

    >>> from lightning_debug.registry import get
    >>> print(markdown_table([get("LD002"), get("LD001")]))
    | code | name | severity | what it finds |
    |---|---|---|---|
    | LD001 | probe-failed | info | A probe of this tool raised an exception; training went on without it. |
    | LD002 | rule-failed | info | A rule of this tool raised an exception; the other rules were judged. |
    """
    rows = [
        f"| {one.code} | {one.name} | {one.severity} | {_cell(one.page.title)} |"
        for one in sorted(rules, key=lambda item: item.code)
    ]
    return "\n".join(["| code | name | severity | what it finds |", "|---|---|---|---|", *rows])


def insert(document: str, table: str) -> str:
    r"""The document with the table between its markers.

    Raises:
        ValueError: If the document does not hold both markers, once each and in order.

    >>> insert(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    True
    """
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    if document.count(BEGIN) != 1 or document.count(END) != 1 or not re.search(pattern, document, flags=re.DOTALL):
        raise ValueError(f"the document must hold the markers once each, in this order: {BEGIN} and {END}")
    return re.sub(pattern, lambda _: f"{BEGIN}\n{table}\n{END}", document, flags=re.DOTALL)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        path = Path(argument)
        path.write_text(insert(path.read_text(encoding="utf-8"), markdown_table(all_rules())), encoding="utf-8")
