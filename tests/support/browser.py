"""Pages in a real browser: what a script finds in one, what the browser complains of, and how it looks.

The browser is driven over a pipe, in its own protocol: a window cannot be as narrow as a phone, a tab can.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

WATCH = """
window.errors = [];
window.addEventListener("error", event => errors.push(event.message));
document.addEventListener("securitypolicyviolation", event => errors.push(event.violatedDirective));
"""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--remote-debugging-pipe", "--force-color-profile=srgb",
)  # fmt: skip


class Tab:
    """One tab of a browser."""

    def __init__(self, to, answers):
        self._to, self._answers, self._number = to, answers, 0
        self.console = []
        """What was written to the console."""
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Return what the browser answers."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": params, **session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (told := self._next()).get("id") != self._number:
            pass
        assert "error" not in told, told["error"]
        return told["result"]

    def _next(self):
        told = json.loads(_until_zero(self._answers))
        if told.get("method") == "Log.entryAdded":
            self.console.append(told["params"]["entry"]["text"])
        if told.get("method") == "Runtime.consoleAPICalled":
            self.console.append(str(told["params"]["args"]))
        return told

    def open(self, page, width=1280, height=900, scheme="light"):
        """Open a file at a width and in a colour scheme."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        self.media(scheme)
        self.call("Page.navigate", url=Path(page).resolve().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass
        self.value("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")  # it has been drawn once

    def media(self, scheme="light", kind=""):
        """Show the page in a colour scheme, on a screen or on paper (`print`)."""
        self.call(
            "Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def value(self, expression):
        """Return the value of an expression of the page."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]["exception"].get("description")
        return done["result"].get("value")

    def press(self, key, text=""):
        """Press a key, such as Tab or Enter."""
        code = {"Tab": 9, "Enter": 13, "ArrowRight": 39}[key]
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, file, *, whole=True):
        """Write what is shown as a PNG, the whole page or what fits the window."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 15000), "scale": 1}
        about = {"clip": clip, "captureBeyondViewport": True} if whole else {}
        Path(file).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **about)["data"]))


def _until_zero(file):
    found = bytearray()
    while (letter := file.read(1)) != b"\0":
        assert letter, "the browser ended"
        found += letter
    return found


@contextlib.contextmanager
def tab():
    """Yield a tab of a browser that ends with the block; skip without a browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed")
    (asked, to), (told, answered) = _pipe(), _pipe()
    nothing = [(os.POSIX_SPAWN_OPEN, each, os.devnull, os.O_RDWR, 0) for each in (0, 1, 2)]
    ends = [(os.POSIX_SPAWN_DUP2, asked, 3), (os.POSIX_SPAWN_DUP2, answered, 4)]  # what it reads and writes
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}"]
        process = os.posix_spawn(browser, command, os.environ, file_actions=[*nothing, *ends], setpgroup=0)
        os.close(asked)
        os.close(answered)
        with os.fdopen(told, "rb") as answers:
            try:
                yield Tab(to, answers)
            finally:
                os.close(to)
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)


def _pipe():
    """Return the ends of a pipe with numbers that the browser's own are none of."""
    ends = []
    for each in os.pipe():
        ends.append(fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(each)
    return ends


def opened(page, script, width=1280):
    """Return what a script leaves in `found`, and what the browser writes to its console; skip without a browser."""
    with tab() as one:
        one.open(page, width)
        found = one.value(f"(() => {{ {script}\nreturn {{...found, errors}}; }})()")
        return found, one.console
