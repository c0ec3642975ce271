"""The page that `amused-lite web` writes, served as any host would, and a browser on it."""

import os
import shutil
import time
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from amused_lite.files.images import SourceImage, open_picture

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP plain.test 127.0.0.1"]
PATIENCE = 600_000  # ms: a busy machine is no failure


class Handler(SimpleHTTPRequestHandler):
    """A host of static files that counts the bytes of each, and may go wrong: path suffix -> "cut" or "flip"."""

    faults: dict[str, str]
    sent: list[int]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        self.sent.append(os.fstat(source.fileno()).st_size)
        super().copyfile(source, outputfile)

    def do_GET(self) -> None:
        fault = next((kind for end, kind in self.faults.items() if self.path.endswith(end)), None)
        if fault is None:
            return super().do_GET()
        data = bytearray(Path(self.translate_path(self.path)).read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        if fault == "flip":
            data[len(data) // 2] ^= 1
        self.wfile.write(data if fault == "flip" else data[: len(data) // 2])
        return None


@dataclass
class Site:
    """The folder, served."""

    server: ThreadingHTTPServer
    folder: Path
    faults: dict[str, str]
    sent: list[int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Visit:
    """A page that is open, and everything that it asked for."""

    page: Any
    shots: Path
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ready(self) -> None:
        self.page.locator("body[data-ready]").wait_for(state="attached")

    def shot(self, name: str) -> None:
        time.sleep(0.7)  # the picture fades in
        self.page.screenshot(path=self.shots / f"{name}.png")

    def draw(self, prompt: str, seed: int, steps: int = 12, count: int = 1, button: str = "#draw") -> list[SourceImage]:
        """The pictures of one press of a button, as files that were saved."""
        from playwright.sync_api import expect

        before = self.count()
        self.page.fill("#prompt", prompt)
        self.page.fill("#seed", str(seed))
        self.page.locator("#steps").fill(str(steps))
        self.page.check(f"[name=count][value='{count}']", force=True)
        self.page.click(button)
        strip = self.page.locator("#strip button")
        expect(strip).to_have_count(before + count, timeout=PATIENCE)
        expect(self.page.locator("#draw")).not_to_have_class("stop", timeout=PATIENCE)
        pictures = []
        for place in range(before, before + count):
            strip.nth(place).evaluate("button => button.click()")
            with self.page.expect_download() as waiting:
                self.page.locator("#save").click()
            pictures.append(open_picture(waiting.value.path()))
        return pictures

    def count(self) -> int:
        return self.page.locator("#strip button").count()

    def message(self) -> Any:
        from playwright.sync_api import expect

        return expect(self.page.locator("#message"))


def open_page(browser: Any, shots: Path, **settings: Any) -> Visit:
    """An empty page in a browser that was never here."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"} | settings)
    context.set_default_timeout(PATIENCE)
    visit = Visit(context.new_page(), shots)
    context.on("request", lambda request: visit.requests.append(request.url))
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    return visit
