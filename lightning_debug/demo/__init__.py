"""``lightning-debug demo``: real training with a planted bug, and what is found."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import logging
import os
import shlex
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from lightning_debug import _script
from lightning_debug.demo.bugs import BUGS, DEFAULT, HEALTHY, Bug, difference, plant
from lightning_debug.reports._text import shown_path


class CannotShow(ValueError):
    """The demo cannot run; the message says why."""


def listing() -> str:
    """The bugs, one a line: code, name, what is planted."""
    width = max(len(bug.name) for bug in BUGS)
    return "\n".join(f"{bug.code or '-':<5}  {bug.name:<{width}}  {bug.line}" for bug in (*BUGS, HEALTHY))


def find(word: str) -> Bug:
    """The bug with this name or code.

    Raises:
        CannotShow: If there is none.

    >>> find("ld201").name
    'softmax-before-cross-entropy'
    """
    for bug in (*BUGS, HEALTHY):
        if word.upper() == bug.code or word.lower().replace("_", "-") == bug.name:
            return bug
    names = [text for bug in (*BUGS, HEALTHY) for text in (bug.name, bug.code) if text]
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5) or [
        name for name in names if difflib.get_close_matches(word, name.split("-"))
    ]
    hint = f"did you mean {' or '.join(near[:3])}?" if near else "`lightning-debug demo --list` shows them"
    raise CannotShow(f"{word!r} is no bug of the demo; {hint}")


def run(word: str | None, folder: str, say: Callable[[str], object]) -> None:
    """Writes a program with a bug, trains it, and says where everything is.

    Args:
        word: Name or code of the bug; two of them are planted when it is left out.
        folder: Where to write program, report and logs; made if needed.
        say: Prints a text.

    Raises:
        CannotShow: If no bug has that name, scikit-learn is missing, or the folder cannot be written to.
    """
    bugs = [find(one) for one in ([word] if word else DEFAULT)]
    if importlib.util.find_spec("sklearn") is None:
        raise CannotShow(
            "the handwritten digits come with scikit-learn, which is not installed: pip install scikit-learn "
            '(or, where this package was installed from, pip install ".[demo]")'
        )
    home = Path(folder, bugs[0].name if word else "default").absolute()
    program = home / "train.py"
    try:
        home.mkdir(parents=True, exist_ok=True)
        program.write_text(plant(bugs), encoding="utf-8")
    except OSError as error:
        raise CannotShow(f"cannot write {program}: {error.strerror or error}") from error
    say(_opening(bugs, program))
    with _quiet():
        _script.run_script(str(program), [])
    say(_closing(bugs, home))


def _opening(bugs: list[Bug], program: Path) -> str:
    planted = [f"  {bug.code}  {bug.name}: {bug.line}" for bug in bugs if bug.code]
    changed = difference(bugs[0].program, program.read_text(encoding="utf-8"))
    lines = [
        "Planted in a program that learns from handwritten digits:",
        *planted,
        "",
        textwrap.indent(changed, "    "),
    ]
    healthy = ["A healthy program that learns from handwritten digits; nothing is planted in it."]
    return "\n".join([*(lines if planted else healthy), "", f"Training {shown_path(str(program))} ...", ""])


def _closing(bugs: list[Bug], home: Path) -> str:
    logs = max((home / "lightning_logs").glob("version_*"), key=os.path.getmtime, default=home)  # of this run
    planted = any(bug.code for bug in bugs)
    hint = "repair it and run it again: a healthy run is told nothing" if planted else "a healthy run is told nothing"
    other = next(code for code in ("LD206", "LD401") if code not in {bug.code for bug in bugs})
    rows = {
        "program": f"python {shlex.quote(shown_path(str(home / 'train.py')))}   ({hint})",
        "report": f"{shown_path(str(home / 'report.html'))} and report.json beside it",
        "TensorBoard": f"tensorboard --logdir {shlex.quote(shown_path(str(logs)))}",
        "read more": "  ".join(f"lightning-debug explain {bug.code}" for bug in bugs if bug.code),
        "other bugs": f"lightning-debug demo --list  lightning-debug demo --bug {other}",
    }
    return "\n".join(f"{name:<12} {text}" for name, text in rows.items() if text)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Lightning's own notices (which device, how many workers) out of the demo."""
    import pytorch_lightning  # noqa: F401  # it sets the levels when it is imported

    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
