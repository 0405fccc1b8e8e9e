"""A headless Chromium, told what to do over its own pipe (the DevTools protocol): no further package is needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PROGRAM = os.environ.get("MMKD_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-zygote --single-process --disable-dev-shm-usage --no-first-run "
    "--remote-debugging-pipe"
)


class Tab:
    """A tab of the browser, and what went wrong in it."""

    def __init__(self, commands: Any, answers: Any) -> None:
        self._commands, self._answers, self._number = commands, answers, 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command; returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        text = bytearray()
        while (letter := self._answers.read(1)) != b"\0":
            assert letter, "the browser ended"
            text += letter
        return json.loads(text)

    def open(self, file: Path, width: int = 1280, scheme: str = "light") -> None:
        """Load a file and wait for it."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        before = len(self.events)
        self.send("Page.navigate", url=file.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events[before:]):
            self.events.append(self._read())

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self) -> bytes:
        """A screenshot as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])

    def problems(self) -> list[str]:
        """Exceptions, what the page's policy forbade, and requests for anything but the page and what is in it."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            level = params.get("entry", {}).get("level")
            if event.get("method") == "Runtime.exceptionThrown" or level == "error":
                found.append(json.dumps(params)[:500])
            url = params.get("request", {}).get("url", "data:")
            if event.get("method") == "Network.requestWillBeSent" and not url.startswith(("data:", "file:")):
                found.append(url)
        return found


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A browser with one empty tab."""
    read_commands, write_commands = os.pipe()
    read_answers, write_answers = os.pipe()

    def connect() -> None:  # the browser reads from 3 and writes to 4
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (read_commands, write_answers)]
        for number, end in enumerate(ends, 3):
            os.dup2(end, number)

    arguments = [str(PROGRAM), *FLAGS.split(), f"--user-data-dir={profile}"]
    process = subprocess.Popen(arguments, preexec_fn=connect, close_fds=False, stderr=subprocess.DEVNULL)
    os.close(read_commands)
    os.close(write_answers)
    try:
        with open(write_commands, "wb") as commands, open(read_answers, "rb") as answers:
            one = Tab(commands, answers)
            target = one.send("Target.createTarget", url="about:blank")["targetId"]
            one.session = one.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            yield one
    finally:
        process.kill()
        process.wait()
