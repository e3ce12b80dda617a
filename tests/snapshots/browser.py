"""A headless Chromium, driven over its debugging pipe: what a person would see in a page, as text and picture."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-pipe --window-size=1400,1200"
).split()

# The text as rendered, through the shadow roots of TensorBoard's elements.
TEXT = """(() => {
    const told = [];
    const walk = node => {
        if (node.nodeType === Node.TEXT_NODE) { told.push(node.data); return; }
        if (['STYLE', 'SCRIPT', 'TEMPLATE'].includes(node.nodeName)) return;
        if (node.shadowRoot) walk(node.shadowRoot);
        node.childNodes.forEach(walk);
    };
    walk(document.documentElement);
    return told.join(' ').replace(/\\s+/g, ' ');
})()"""


class Page:
    """One tab.

    Args:
        process: The browser, its pipe at file descriptors 3 and 4.
        pipe: Our ends: to write to, to read from.
    """

    def __init__(self, process: subprocess.Popen[bytes], pipe: tuple[int, int]) -> None:
        self._process, (self._out, self._in) = process, pipe
        self._buffer, self._number, self._session = b"", 0, None
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Network.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the debugging protocol and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 16)
            if not part:
                raise RuntimeError(f"the browser ended with {self._process.poll()}")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, url: str) -> None:
        """Goes to a page."""
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        """All text of the page, shadow roots included."""
        return self.evaluate(TEXT) or ""

    def wait_for(self, *words: str, seconds: float = 60.0) -> str:
        """The page's text as soon as it holds all words.

        Raises:
            TimeoutError: If it does not in time.
        """
        end = time.monotonic() + seconds
        while True:
            text = self.text()
            missing = [word for word in words if word not in text]
            if not missing:
                return text
            if time.monotonic() > end:
                raise TimeoutError(f"the page does not show {missing}: {text[:2000]}")
            time.sleep(0.25)

    def picture(self, path: Path) -> bytes:
        """A screenshot, also written to a file."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(data)
        return data


@contextlib.contextmanager
def page(folder: Path) -> Iterator[Page]:
    """A browser with an empty page; its profile lies in ``folder``."""
    assert CHROMIUM is not None
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    ends = (to_browser, from_browser)

    # The protocol wants descriptors 3 and 4; the shell moves ours there (up to 9 is all that it can name).
    high = [os.dup(end) for end in ends]
    command = [f"--user-data-dir={folder}", *FLAGS]
    script = f'exec 3<&{high[0]} 4>&{high[1]}; exec "$0" "$@"'
    process = subprocess.Popen(
        ["bash", "-c", script, CHROMIUM, *command],
        pass_fds=high,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (*ends, *high):
        os.close(end)
    try:
        yield Page(process, (from_us, to_us))
    finally:
        process.kill()
        process.wait()
        os.close(from_us)
        os.close(to_us)
