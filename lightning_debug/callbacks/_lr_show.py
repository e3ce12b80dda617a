"""Shows a learning-rate range: a line on the console, a figure and a text in TensorBoard, a page of its own."""

from __future__ import annotations

import html
import importlib
import io
import os
from typing import Any

from lightning_debug.callbacks._lightning import Trainer, report_folder, summary_writers
from lightning_debug.evidence.lr_range import LRRange, LRTrial
from lightning_debug.settings import Settings

HEADS = ("learning rate", "loss on held-out examples", "training loss, last fifth", "steps")
"""Of the table of trials: the suggestion weighs both losses."""


class Progress:
    """A progress bar that counts parts, named as they begin.

    Args:
        title: What stands before it.
        visible: Whether to show it.
    """

    def __init__(self, title: str, visible: bool) -> None:
        self._bar: Any = None
        if visible:
            tqdm = importlib.import_module("tqdm.auto").tqdm  # what Lightning's own bar uses
            self._bar = tqdm(desc=title, unit=" runs", leave=False)

    def __call__(self, part: str) -> None:
        """Says that a part begins."""
        if self._bar is not None:
            self._bar.set_postfix_str(part, refresh=False)
            self._bar.update()

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()


def summary(found: LRRange) -> str:
    """The result in a sentence.

    >>> summary(LRRange(in_use=0.5, suggestion=0.01, lr_min=0.001, lr_max=0.1, name="Adam", reason="it falls"))
    'Adam: learning rates from 0.001 to 0.1 work, 0.01 is suggested (in use: 0.5); it falls.'
    """
    ranged = f"learning rates from {found.lr_min:.2g} to {found.lr_max:.2g} work, " if found.lr_min else ""
    if found.suggestion is None:
        return f"{found.name}: no learning rate is suggested (in use: {found.in_use:.2g}); {found.reason}."
    return f"{found.name}: {ranged}{found.suggestion:.2g} is suggested (in use: {found.in_use:.2g}); {found.reason}."


def show(found: LRRange, trainer: Trainer, settings: Settings, *, console: bool) -> None:
    """Shows the result wherever the settings and the Trainer's loggers want it. ``log_dir`` makes it a collective."""
    folder = settings.report_dir or os.path.join(report_folder(trainer), "lightning_debug")
    if trainer.global_rank != 0:
        return
    if console and settings.console:
        print(f"lightning_debug: {summary(found)}")  # noqa: T201
    writers = summary_writers(trainer) if settings.tensorboard else []
    tag = f"lightning_debug/learning_rate_{found.optimizer}"
    for writer in writers:
        writer.add_text(tag, f"{summary(found)}\n\n{table(found)}", found.at.step)
    drawing = figure(found) if found.curve_lrs and (writers or settings.html) else None
    if drawing is None:
        return
    for writer in writers:
        if hasattr(writer, "add_figure"):
            writer.add_figure(tag, drawing, found.at.step)
    if settings.html:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"lr_range_{found.optimizer}.html"), "w", encoding="utf-8") as file:
            file.write(page(found, drawing))


def table(found: LRRange) -> str:
    """The trials as a Markdown table."""
    rows = [f"| {' | '.join(cells)} |" for cells in (HEADS, ("---",) * len(HEADS), *map(_cells, found.trials))]
    return "\n".join(rows)


def _cells(one: LRTrial) -> tuple[str, ...]:
    last = one.losses[-max(1, len(one.losses) // 5) :]
    return f"{one.lr:.2g}", f"{one.score:.4g}", f"{sum(last) / max(1, len(last)):.4g}", f"{len(one.losses)}"


def figure(found: LRRange) -> Any:
    """The curve over the learning rate with the range, the trials, the suggestion and what is in use."""
    from matplotlib.figure import Figure  # a run that shows nothing does not pay for it

    drawing = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = drawing.add_subplot()
    axes.semilogx(found.curve_lrs, found.curve_losses, label="loss in sweeps, pooled and smoothed")
    low, high = min(found.curve_losses), max(found.curve_losses[: max(5, len(found.curve_losses) // 3)])
    tried = [one for one in found.trials if one.score <= high + (high - low)]
    if tried:
        axes.plot([one.lr for one in tried], [one.score for one in tried], "o", label="held-out loss after a trial")
        low = min(low, *(one.score for one in tried))
    if found.lr_min and found.lr_max:
        axes.axvspan(found.lr_min, found.lr_max, alpha=0.12)
    axes.axvline(found.in_use, linestyle=":", color="black", label=f"in use: {found.in_use:.2g}")
    if found.suggestion:
        axes.axvline(found.suggestion, color="tab:green", label=f"suggested: {found.suggestion:.2g}")
    margin = 0.1 * (high - low) or 0.1
    axes.set_ylim(low - margin, high + 3 * margin)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend(fontsize=8)
    return drawing


def page(found: LRRange, drawing: Any) -> str:
    """An HTML page with the figure and the trials."""
    text = io.StringIO()
    drawing.savefig(text, format="svg")
    svg = text.getvalue()
    rows = [f"<tr><th>{'</th><th>'.join(HEADS)}</th></tr>"]
    rows += [f"<tr><td>{'</td><td>'.join(_cells(one))}</td></tr>" for one in found.trials]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Learning rate</title>'
        "<style>body{font:16px/1.5 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}"
        "td,th{padding:.2rem 1rem .2rem 0;text-align:left}svg{max-width:100%;height:auto}</style>"
        f"<h1>Learning rate</h1><p>{html.escape(summary(found))}</p>{svg[svg.index('<svg') :]}"
        f"<table>{''.join(rows)}</table>"
        "</html>\n"
    )
