"""How soon the page shows something, and what it weighs: a script for a quiet machine, not a test.

    python tests/apps/demo/first_view.py [--runs 5]

Each run is a server that was just started and a browser that was never here. It prints, for each: seconds until the
sentence and the example are seen, bytes that were sent, seconds from Enter to the first preview, the longest wait
between two previews of four pictures, and how far the layout jumped (the sum of the browser's layout shifts).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WATCH = """
window.jumps = 0; window.previews = [];
new PerformanceObserver((list) => {
  list.getEntries().forEach((one) => { window.jumps += one.hadRecentInput ? 0 : one.value; });
}).observe({ type: 'layout-shift', buffered: true });
let last = '';
const look = () => {
  const seen = document.querySelector('#stage .forming img')?.src;
  if (seen && seen !== last) { last = seen; window.previews.push(performance.now()); }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
SEEN = "document.querySelector('#go') && document.querySelector('#stage .cell img')?.complete"
DONE = "document.querySelector('#said').textContent.includes('Done') && !document.querySelector('#stage progress')"


def measure(page: Any, url: str) -> str:
    """One visit."""
    sent = [0]
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda event: sent.__setitem__(0, sent[0] + event["encodedDataLength"]))
    page.add_init_script(WATCH)
    began = time.monotonic()
    page.goto(url, wait_until="commit")
    page.wait_for_function(SEEN)
    first = time.monotonic() - began
    page.wait_for_timeout(2000)  # the page never stops asking, so it is never idle
    weight = sent[0]
    page.wait_for_function(DONE)
    page.locator("#prompt textarea").fill("a red balloon above a blue house at sunset")
    asked = page.evaluate("performance.now()")
    page.keyboard.press("Enter")
    page.locator("#stage .forming img").first.wait_for()
    page.wait_for_function(DONE)
    previews = [at for at in page.evaluate("window.previews") if at > asked]
    waits = [(later - before) / 1000 for before, later in pairwise(previews)]
    jumped = page.evaluate("window.jumps")
    return (
        f"first view {first:.2f} s, {weight / 1000:.0f} KB sent, first preview {(previews[0] - asked) / 1000:.2f} s, "
        f"{len(previews)} previews at most {max(waits, default=0):.2f} s apart, jumped {jumped:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="servers and browsers, one after another (3)")
    chromium = next(path for name in ("chromium", "google-chrome") if (path := shutil.which(name)))
    for number in range(parser.parse_args().runs):
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
            command = [sys.executable, "-m", "amused_lite", "demo", "--no-browser", "--port", "0"]
            command += ["--history", f"{folder}/history", "--styles", f"{folder}/styles"]
            environment = {**os.environ, "HOME": folder}
            errors = (Path(folder) / "errors").open("w")
            server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
            browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
            try:
                assert server.stdout is not None
                url = server.stdout.readline().removeprefix("listening at ").strip()
                page = browser.new_page(viewport={"width": 1366, "height": 768})
                page.set_default_timeout(240_000)
                print(f"run {number + 1}: {measure(page, url)}", flush=True)
            finally:
                browser.close()
                server.terminate()
                server.wait(120)
                errors.close()


if __name__ == "__main__":
    main()
