"""A browser that is driven: Debian's chromium through chromedriver, in the words of W3C WebDriver (w3.org/TR/webdriver2)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["Browser", "available"]

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars"]  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ENTER = "\ue004", "\ue007"


def available() -> bool:
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


class Browser:
    """One window. A context manager. Args: scripts, whether pages may run any."""

    def __init__(self, scripts: bool = True) -> None:
        self.scripts = scripts

    def __enter__(self) -> Browser:
        self._profile = tempfile.mkdtemp(prefix="minirt-chromium-")
        self._driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._driver.stdout
        line = next(line for line in self._driver.stdout if "successfully on port" in line)
        self._url = f"http://127.0.0.1:{line.rstrip().rstrip('.').rpartition(' ')[2]}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={self._profile}", "--window-size=1100,900"]}
        if not self.scripts:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        self._url += "/" + self._send("POST", "", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})["sessionId"]
        return self

    def __exit__(self, *_: object) -> None:
        self._send("DELETE", "")
        self._driver.terminate()
        self._driver.wait(20)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:300]}") from None

    def go(self, url: str) -> None:
        self._send("POST", "/url", {"url": url})

    def find(self, selector: str) -> str:
        return str(self._send("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT])

    def text(self, selector: str) -> str:
        return str(self._send("GET", f"/element/{self.find(selector)}/text"))

    def click(self, selector: str) -> None:
        self._send("POST", f"/element/{self.find(selector)}/click")

    def type(self, keys: str) -> None:
        """Press keys, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def style(self, selector: str, name: str) -> str:
        """A computed value, as `rgb(1, 2, 3)`."""
        return str(self._send("GET", f"/element/{self.find(selector)}/css/{name}"))

    def run(self, script: str) -> Any:
        return self._send("POST", "/execute/sync", {"script": script, "args": []})

    def scheme(self, name: str) -> None:
        """Be of somebody who likes it `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._send("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}})

    def paper(self, on: bool) -> None:
        """Be printed, by somebody who likes it dark on the screen."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        parameters = {"media": "print" if on else "", "features": features}
        self._send("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": parameters})

    def width(self, pixels: int) -> None:
        """Be a screen so wide: a window cannot be as narrow as a telephone."""
        metrics = {"width": pixels, "height": 700, "deviceScaleFactor": 1, "mobile": False}
        self._send("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))

    @property
    def title(self) -> str:
        return str(self._send("GET", "/title"))

    @property
    def url(self) -> str:
        return str(self._send("GET", "/url"))

    def until(self, what: Any, seconds: float = 60) -> None:
        """Wait until a function says so."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.url
            time.sleep(0.05)
