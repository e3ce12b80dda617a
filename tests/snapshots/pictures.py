"""The pictures in the README: what the demo shows in a browser. ``python -m tests.snapshots.pictures`` takes them anew."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.house import ROOT
from tests.snapshots.browser import Page, page

FOLDER = ROOT / "notebooks" / "pictures"
SIZE = {"width": 1100, "height": 900, "deviceScaleFactor": 1, "mobile": False}


def demo(folder: Path) -> Path:
    """Runs the demo; returns the folder of its run."""
    subprocess.run([sys.executable, "-m", "lightning_debug", "demo"], cwd=folder, check=True, capture_output=True)
    return folder / "lightning_debug_demo" / "default"


def take(folder: Path, run: Path) -> list[Path]:
    """Takes the pictures of a run: its page, and TensorBoard's tab of text on it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, page(Path(profile)) as tab:
        tab.call("Emulation.setDeviceMetricsOverride", **SIZE)
        tab.open((run / "report.html").as_uri())
        tab.wait_for("LD201", "LD401")
        tab.picture(folder / "report.png")
        tensorboard(tab, run, folder / "tensorboard.png")
    return sorted(folder.glob("*.png"))


def tensorboard(tab: Page, run: Path, path: Path) -> None:
    """Takes the picture of TensorBoard."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", ".", "--port", "0", "--host", "127.0.0.1"]
    log = path.with_suffix(".log")
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(command, stdout=output, stderr=output, cwd=run) as process,
    ):
        try:
            address = None
            while address is None and process.poll() is None:
                time.sleep(0.25)
                address = re.search(r"TensorBoard \S+ at (http://\S+?)/? ", log.read_text(encoding="utf-8"))
            assert address is not None, "tensorboard did not come up"
            tab.open(f"{address[1]}/#text")
            tab.wait_for("softmax-before-cross-entropy", "eval-mode-in-training")
            time.sleep(1)  # the cards unfold
            tab.picture(path)
        finally:
            process.terminate()
            process.wait()
            log.unlink()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(*take(FOLDER, demo(Path(scratch))), sep="\n")
