"""The few addresses of the page beside gradio's own: pictures of the gallery, whole and small, and trained styles."""

from functools import lru_cache
from io import BytesIO

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, Response
from PIL import Image

from .app_state import Desk

_SMALL = 320  # px


def make_router(desk: Desk) -> APIRouter:
    """The routes; `access.Guard` stands before them as before all others."""
    router = APIRouter(include_in_schema=False)

    @router.get("/history/{name}")
    def whole(name: str) -> Response:
        if desk.history is None:
            raise HTTPException(404, "there is no history")
        try:
            return FileResponse(desk.history.path(name), media_type="image/png")
        except OSError as error:
            raise HTTPException(404, "there is no such picture") from error

    @router.get("/history/{name}/small.jpeg")
    def small(name: str) -> Response:
        if desk.history is None:
            raise HTTPException(404, "there is no history")
        try:
            path = desk.history.path(name)
            data = _thumbnail(str(path), path.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise HTTPException(404, "there is no such picture") from error
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    @router.get("/styles/{name}.safetensors")
    def style(name: str) -> Response:
        path = desk.engine.shelf.adapters.get(name)
        if path is None or not path.is_file():
            raise HTTPException(404, "there is no such style")
        return FileResponse(path, media_type="application/octet-stream", filename=f"{name}.safetensors")

    return router


@lru_cache(maxsize=512)
def _thumbnail(path: str, changed: int) -> bytes:
    """A small JPEG; `changed` is there so that another file of the same name gets its own."""
    with Image.open(path, formats=["PNG"]) as image:
        image.thumbnail((_SMALL, _SMALL))
        data = BytesIO()
        image.convert("RGB").save(data, "JPEG", quality=82)
    return data.getvalue()
