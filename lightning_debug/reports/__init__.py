"""HOW IT LOOKS: report in, text out; sinks write. Reports decide nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_debug.session import Sink
    from lightning_debug.settings import Settings

JSON_NAME, HTML_NAME = "report.json", "report.html"


def sinks(settings: Settings, folder: str | None, writers: list[Any]) -> list[Sink]:
    """The sinks that the settings ask for; the console comes last, when the files it names are written.

    Args:
        settings: What to show.
        folder: Where files go; ``None`` for no files.
        writers: TensorBoard ``SummaryWriter`` objects. Each has a sink of its own: one that fails leaves the others.
    """
    from lightning_debug.reports.console import ConsoleSink
    from lightning_debug.reports.html_report import HtmlSink
    from lightning_debug.reports.json_report import JsonSink
    from lightning_debug.reports.tensorboard import TensorBoardSink

    found: list[Sink] = []
    page = None if folder is None or not settings.html else os.path.abspath(os.path.join(folder, HTML_NAME))
    if folder is not None and settings.json:
        judged = {"select": settings.select, "ignore": settings.ignore, "thresholds": settings.thresholds}
        found.append(JsonSink(os.path.abspath(os.path.join(folder, JSON_NAME)), judged))
    if page is not None:
        found.append(HtmlSink(page))
    if settings.tensorboard:
        found += [TensorBoardSink(writer) for writer in writers]
    if settings.console:
        found.append(ConsoleSink(page))
    return found


def refusal(folder: str) -> str:
    """Why no file can be written into a folder, which need not be there yet; empty where one can.

    >>> refusal(os.path.join(__file__, "reports")).endswith("__init__.py is a file")
    True
    """
    there = os.path.abspath(folder)
    while not os.path.exists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        return f"{there} is a file"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written to"
