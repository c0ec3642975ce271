"""The page of `amused-lite web` beside the demo's own, for phones on the same network: they draw by themselves.

Its address comes as a QR code, with the token of whoever asks for it.
"""

import socket
from html import escape
from pathlib import Path

import segno
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from amused_lite.bundle import open_bundle
from amused_lite.runtimes.open import find_model

from ..server.access import Access, is_loopback
from ..server.tokens import name_of, sent_tokens
from ..web.folder import write_page

PATH = "/phone"
_CODE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light">
<title>On a phone</title>
<style>
body {{ font: 17px/1.5 system-ui, sans-serif; max-width: 26em; margin: 8vh auto; padding: 0 20px; text-align: center;
  background: #f7f5f1; color: #211f1b }}
svg {{ width: min(100%, 320px); height: auto }}
p {{ overflow-wrap: anywhere }}
</style>
<h1>On a phone</h1>{code}
<p>Point its camera here. It must be in the same network; the model comes over it once, and then the phone draws by
itself.</p><p><a href="{address}">{shown}</a></p></html>"""


def add_phone_page(app: FastAPI, model: str | Path, folder: Path, access: Access) -> bool:
    """Write the page to `folder` and offer it at `PATH`; False where a browser cannot run this model."""
    try:
        write_page(open_bundle(find_model(model)), folder)
    except (OSError, ValueError):
        return False
    router = APIRouter(include_in_schema=False)

    @router.get(f"{PATH}-code")
    def code(request: Request) -> HTMLResponse:
        given = (token for token in sent_tokens(request.headers) if name_of(token, access.tokens) is not None)
        page = request.url.replace(path=request.url.path.removesuffix("-code") + "/", query="")
        if is_loopback(page.hostname or ""):
            page = page.replace(hostname=own_address())
        address = page.include_query_params(token=token) if (token := next(given, "")) else page
        drawn = segno.make(str(address)).svg_inline(scale=6, border=2, dark="#211f1b")
        text = _CODE.format(code=drawn, address=escape(str(address)), shown=escape(str(page)))
        return HTMLResponse(text, headers={"Cache-Control": "no-store"})

    app.include_router(router)
    app.mount(PATH, StaticFiles(directory=folder, html=True))
    return True


def own_address() -> str:
    """This machine's address in the network it would reach others by; nothing is sent to find it out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of RFC 5737, which is nobody's
            return probe.getsockname()[0]
        except OSError:  # no network
            return "127.0.0.1"
