"""A headless Chromium that tells what goes wrong in a page.

By its DevTools protocol, over a pipe: no port and no driver.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)
_TIMEOUT_S = 240.0


def find_browser() -> str | None:
    """Its path; None where none is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Browser:
    """One page. problems: errors of the console and of scripts; requests: addresses that are no files and no data."""

    to_browser: int
    from_browser: int
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _session: str | None = None
    _last: int = 0
    _read: bytes = b""
    _is_loaded: bool = False

    def open(self, file: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page and wait until everything in it has loaded."""
        if self._session is None:
            self._attach()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._is_loaded = False
        self.tell("Page.navigate", url=file.resolve().as_uri())
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._is_loaded:
            self._hear(deadline)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it is resolved to."""
        answer = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def point(self, x: float, y: float) -> None:
        """Move the pointer there [px]."""
        self.tell("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, file: Path, is_whole: bool = True) -> None:
        """PNG of what is in sight, or of the whole page."""
        answer = self.tell("Page.captureScreenshot", captureBeyondViewport=is_whole)
        file.write_bytes(base64.b64decode(answer["data"]))

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            heard = self._hear(deadline)
            if heard.get("id") == self._last:
                assert "error" not in heard, f"{method}: {heard['error']}"
                return dict(heard["result"])

    def _attach(self) -> None:
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def _hear(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self.from_browser], [], [], max(0.0, deadline - time.monotonic()))[0], "no answer"
            part = os.read(self.from_browser, 1 << 20)
            assert part, "the browser has died"
            self._read += part
        message, _, self._read = self._read.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        self._note(heard.get("method"), heard.get("params", {}))
        return heard

    def _note(self, method: str | None, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._is_loaded = True
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.problems.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            address = told["request"]["url"]
            if not address.startswith(("file:", "data:", "about:")):
                self.requests.append(address)


@contextlib.contextmanager
def browsing(path: str, folder: Path) -> Iterator[Browser]:
    """A running browser. folder: for its profile."""
    command_out, command_in = os.pipe()
    answer_out, answer_in = os.pipe()
    # The protocol's pipe is file descriptors 3 and 4.
    redirected = f'exec "$@" 3<&{command_out} 4>&{answer_in}'
    process = subprocess.Popen(
        ["bash", "-c", redirected, "browser", path, *_ARGUMENTS, f"--user-data-dir={folder}"],
        pass_fds=(command_out, answer_in),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_out)
    os.close(answer_in)
    try:
        yield Browser(command_in, answer_out)
    finally:
        os.close(command_in)  # which ends it
        os.close(answer_out)
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
