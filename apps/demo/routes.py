"""The few addresses of the page beside gradio's own: pictures of the gallery, trained styles, and uploads.

Uploads have the addresses that gradio's components use, and stand before gradio's own routes of these names.
"""

import base64
from functools import lru_cache
from io import BytesIO

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from PIL import Image

from amused_lite.adapters.file import load_record
from amused_lite.files.png import encode_png

from .app_state import AppState
from .uploads import UNKNOWN

_PNG = b"\x89PNG\r\n\x1a\n"
_SMALL = 320  # px
_MOST_FILES = 10  # of one upload
LARGER = (2, 4)  # times its size that a picture can be saved at
_MOST_PIXELS = 2**26  # of one that is saved larger


def make_router(app_state: AppState) -> APIRouter:
    """The routes; `access.Guard` stands before them as before all others."""
    router = APIRouter(include_in_schema=False)

    @router.get("/history/{name}")
    def whole(name: str) -> Response:
        if app_state.history is None:
            raise HTTPException(404, "there is no history")
        try:
            return FileResponse(app_state.history.path(name), media_type="image/png")
        except OSError as error:
            raise HTTPException(404, "there is no such picture") from error

    @router.get("/history.zip")
    def archive(words: str = "") -> Response:
        if app_state.history is None:
            raise HTTPException(404, "there is no history")
        headers = {"Content-Disposition": 'attachment; filename="amused-lite.zip"', "Cache-Control": "no-store"}
        return StreamingResponse(app_state.history.archive(words), media_type="application/zip", headers=headers)

    @router.get("/history/{name}/small.jpeg")
    def small(name: str) -> Response:
        if app_state.history is None:
            raise HTTPException(404, "there is no history")
        try:
            path = app_state.history.path(name)
            data = _thumbnail(str(path), path.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise HTTPException(404, "there is no such picture") from error
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    @router.get("/small/{id}/{index}.jpeg")
    def small_result(id: str, index: int) -> Response:
        try:
            data = _small(app_state.result(f"{id}/{index}").picture.image)
        except ValueError as error:
            raise HTTPException(404, "there is no such picture") from error
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @router.get("/large/{id}/{index}/{times}.png")
    def large_result(id: str, index: int, times: int) -> Response:
        try:
            picture = app_state.result(f"{id}/{index}").picture
        except ValueError as error:
            raise HTTPException(404, "there is no such picture") from error
        width, height = (length * times for length in picture.image.size)
        if times not in LARGER or width * height > _MOST_PIXELS:
            raise HTTPException(404, f"a picture is enlarged 2 or 4 times, to at most {_MOST_PIXELS} px")
        image = picture.image.resize((width, height), Image.Resampling.LANCZOS)
        return Response(bytes(encode_png(image, picture.recipe)), media_type="image/png")

    @router.get("/styles/{name}.safetensors")
    def style(name: str) -> Response:
        path = app_state.engine.model_cache.adapters.get(name)
        if path is None or not path.is_file():
            raise HTTPException(404, "there is no such style")
        return FileResponse(path, media_type="application/octet-stream", filename=f"{name}.safetensors")

    @router.get("/styles/{name}.png")
    def style_picture(name: str) -> Response:
        path = app_state.engine.model_cache.adapters.get(name)
        try:
            data = base64.b64decode(load_record(path).thumbnail, validate=True) if path is not None else b""
        except (OSError, ValueError) as error:
            raise HTTPException(404, "there is no such style") from error
        if not data.startswith(_PNG):
            raise HTTPException(404, "there is no picture of this style")
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})

    @router.post("/gradio_api/upload")
    async def upload(request: Request) -> list[str]:
        async with request.form(max_files=_MOST_FILES, max_fields=0) as form:
            files = [file for file in form.getlist("files") if not isinstance(file, str)]
            if not files:
                raise HTTPException(400, "an upload is a form with files; send at least one, as files")
            return [app_state.uploads.keep(await file.read()) for file in files]

    @router.get("/gradio_api/file={key:path}")
    def uploaded(key: str) -> Response:
        try:
            file = app_state.uploads.open(key)
        except ValueError as error:
            raise HTTPException(404, str(error)) from error
        headers = {"Cache-Control": "no-store"}
        if file.kind == UNKNOWN:
            headers["Content-Disposition"] = "attachment"  # it is its sender's, and shown by nobody
        return Response(file.data, media_type=file.kind, headers=headers)

    return router


@lru_cache(maxsize=512)
def _thumbnail(path: str, changed: int) -> bytes:
    """A small JPEG; `changed` is there so that another file of the same name gets its own."""
    with Image.open(path, formats=["PNG"]) as image:
        return _small(image)


def _small(image: Image.Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((_SMALL, _SMALL))
    data = BytesIO()
    small.save(data, "JPEG", quality=82)
    return data.getvalue()
