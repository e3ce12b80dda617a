"""Output kept as plain files: ``check`` compares, ``UPDATE_SNAPSHOTS=1 pytest tests/test_reports_snapshots.py`` writes."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent


def check(name: str, text: str) -> None:
    """Compares a text with the snapshot of that name; escape codes are kept readable."""
    text = "\n".join(line.rstrip() for line in text.replace("\x1b", "␛").splitlines()) + "\n"
    path = FOLDER / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"no snapshot {name}: run with UPDATE_SNAPSHOTS=1, and look at what it wrote"
    assert text == path.read_text(encoding="utf-8"), f"{name} has changed: UPDATE_SNAPSHOTS=1 writes it anew"
