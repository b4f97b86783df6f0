# Copyright (c) MONAI Consortium
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Headless Chromium for tests, driven through chromedriver's HTTP with the standard library alone."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), shutil.which("chromedriver")
MISSING = "needs /usr/bin/chromium and chromedriver"
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)


def available() -> bool:
    """Whether there is a browser to drive."""
    return CHROMIUM.exists() and DRIVER is not None


class Browser:
    """One headless browser; a context manager."""

    def __init__(self) -> None:
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.url = f"http://127.0.0.1:{port}"
        options = {"binary": str(CHROMIUM), "args": [*ARGUMENTS, f"--user-data-dir={self.profile.name}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._wait()
        made = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.url += f"/session/{made['sessionId']}"
        self._send("POST", "/timeouts", {"script": 120000, "pageLoad": 120000})

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        try:
            self._send("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(10)
            self.profile.cleanup()

    def open(self, path: Path, hash: str = "") -> "Browser":
        """Opens a file and waits until the page has started; returns this browser."""
        self._send("POST", "/url", {"url": "about:blank"})
        self._send("POST", "/url", {"url": path.resolve().as_uri() + hash})
        end = time.monotonic() + 120
        while time.monotonic() < end:
            ready = self.run("return document.documentElement.dataset.ready")
            if ready:
                assert ready == "true", self.run("return document.getElementById('trouble').textContent")
                return self
            time.sleep(0.1)
        raise TimeoutError(f"{path.name} did not start: {self.log()}")

    def run(self, script: str, *arguments: object) -> object:
        """Result of a JavaScript function body."""
        return self._send("POST", "/execute/sync", {"script": script, "args": arguments})

    def frame(self) -> None:
        """Waits until what was asked for is drawn."""
        script = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(1)))"
        self._send("POST", "/execute/async", {"script": script, "args": []})

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Size of the visible page, and its colours."""
        self._devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", features=[scheme])

    def key(self, key: str, code: str) -> None:
        """Presses a key where the focus is."""
        for kind in ("rawKeyDown", "keyUp"):
            self._devtools("Input.dispatchKeyEvent", type=kind, key=key, code=code)

    def screenshot(self, whole: bool = False) -> bytes:
        """PNG of the visible page, or of all of it."""
        return base64.b64decode(self._devtools("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def log(self) -> list[str]:
        """What the console of the browser says since the last call, warnings and errors."""
        entries = self._send("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def _devtools(self, command: str, **parameters: object) -> dict:
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _wait(self) -> None:
        for _ in range(100):
            try:
                self._send("GET", "/status")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise TimeoutError("chromedriver did not start")

    def _send(self, method: str, path: str, body: dict | None = None) -> object:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None
