"""The page in the Firefox that a distribution brings, spoken to in its own Marionette protocol: JSON over TCP.

Playwright drives only Firefoxes that it built itself. Without one all of it is skipped; on Debian and Ubuntu
`apt install firefox-esr` brings one.
"""

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Site
from serving import alone

from amused_lite.files.images import open_picture

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
SECONDS = 900  # a busy machine is no failure
pytestmark = [
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox here (looked for firefox-esr, firefox)"),
    pytest.mark.timeout(3 * SECONDS),
    pytest.mark.slow,
]
PREFERENCES = {
    "marionette.port": 0,  # any; Firefox writes the one it took into its profile
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}
READY = """
const [done] = arguments;
(function look() {
  const { ready } = document.body?.dataset ?? {};
  ready ? done(Number(ready)) : setTimeout(look, 200);
})();
"""
DRAW = """
const [prompt, seed, steps, done] = arguments;
const byId = (id) => document.getElementById(id);
[byId("prompt").value, byId("seed").value, byId("steps").value] = [prompt, seed, steps];
byId("draw").click();
(function look() {
  const message = byId("message");
  const ended = !byId("draw").classList.contains("stop");
  if (ended && !message.classList.contains("wrong")) byId("save").click();
  ended ? done(message.textContent) : setTimeout(look, 200);
})();
"""


class Firefox:
    """One window."""

    def __init__(self, profile: Path) -> None:
        self.saved = profile / "saved"
        preferences = PREFERENCES | {"browser.download.folderList": 2, "browser.download.dir": str(self.saved)}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
        (profile / "user.js").write_text("\n".join(lines))
        command = [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # type: ignore[arg-type]
        port = profile / "MarionetteActivePort"
        deadline = time.monotonic() + 120
        while not (port.is_file() and port.read_text().strip()):
            assert self.process.poll() is None and time.monotonic() < deadline, "Firefox did not start"
            time.sleep(0.2)
        self.connection = socket.create_connection(("127.0.0.1", int(port.read_text())), timeout=SECONDS)
        self.answers = self.connection.makefile("rb")
        self._message()  # who it is
        self.tell("WebDriver:NewSession", capabilities={})
        self.tell("WebDriver:SetTimeouts", script=SECONDS * 1000, pageLoad=SECONDS * 1000)

    def _message(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self.answers.read(1)
        return json.loads(self.answers.read(int(length[:-1])))

    def tell(self, command: str, **given: Any) -> Any:
        data = json.dumps([0, 1, command, given]).encode()
        self.connection.sendall(b"%d:%s" % (len(data), data))
        _, _, error, result = self._message()
        assert error is None, (command, error)
        return result

    def script(self, script: str, *values: Any) -> Any:
        """What an asynchronous script gives to its last argument."""
        return self.tell("WebDriver:ExecuteAsyncScript", script=script, args=values, newSandbox=True)["value"]

    def file(self) -> Path:
        """The only file that was saved, once it is whole."""
        deadline = time.monotonic() + 120
        while not (found := [path for path in self.saved.glob("*.png") if path.stat().st_size]):
            assert time.monotonic() < deadline, "nothing was saved"
            time.sleep(0.2)
        (file,) = found
        return file

    def shot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.tell("WebDriver:TakeScreenshot", full=False)["value"]))

    def close(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    started = Firefox(tmp_path_factory.mktemp("firefox"))
    yield started
    started.close()


def test_firefox_draws_pythons_tokens_also_offline(firefox: Firefox, site: Site, tmp_path: Path) -> None:
    for number, prompt in enumerate(("a red balloon above a blue house", "three white stars at night")):
        if number:
            site.close()
        firefox.tell("WebDriver:Navigate", url=site.url)  # its "Refresh" passes service workers by
        threads = firefox.script(READY)
        said = firefox.script(DRAW, prompt, 7 + number, 8)
        print(f"Firefox, {threads} threads: {said}")
        file = firefox.file()
        recipe = open_picture(file).recipe
        assert recipe is not None
        file.unlink()
        np.testing.assert_array_equal(recipe.tokens, alone(prompt, 7 + number, 8).recipe.tokens)
        firefox.shot(tmp_path / f"firefox-{number}.png")
