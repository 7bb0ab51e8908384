"""OHIF, as the package monailabel brings it, if that is installed; and the way from it to the DICOM store.

OHIF asks the server that it came from for DICOMweb below ``/proxy/dicom``.
"""

import importlib.util
import mimetypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from deepedit.server.dicomweb import DicomStore
from deepedit.server.errors import NotFound, Unavailable
from deepedit.server.store_login import REFUSED

FORWARDED = ("accept", "content-type")
CHUNK = 2**18
ADDRESS = "MONAILABEL_SERVER_URL"
"""The cookie in which OHIF's extension of MONAI Label keeps the address of its server."""

LOG_IN = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>DeepEdit</title>
<p>Log in at <a href="{}">the page of this server</a> first, and then open this address again.</p>
"""
"""What a browser shows in the place of OHIF, which knows of no log-in, and so shows the cookie of that of the page."""

TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".css": "text/css"}
"""Types that browsers insist on, whatever the system says of these endings."""


def routes(store: DicomStore) -> APIRouter:
    router = APIRouter(tags=["ohif"], include_in_schema=False)

    @router.get("/ohif")
    async def front() -> RedirectResponse:
        return RedirectResponse("/ohif/")

    @router.get("/ohif/{path:path}")
    async def page(request: Request, path: str) -> FileResponse:
        """A file of OHIF; its own addresses, which are no files, are answered by its page.

        The page gets a cookie in which it looks for the address of the server, and would look at port 8000 without.
        """
        folder = ohif_folder()
        if folder is None:
            raise NotFound("OHIF is not installed here; pip install --no-deps monailabel==0.8.5 brings it")
        file = (folder / path).resolve()
        if not file.is_relative_to(folder) or not file.is_file():
            file = folder / "index.html"
        answer = FileResponse(file, media_type=TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0])
        if file.name == "index.html" and ADDRESS not in request.cookies:
            answer.set_cookie(ADDRESS, quote(str(request.base_url), safe=""), path="/ohif", samesite="strict")
        return answer

    @router.get("/proxy/dicom/{service}/{path:path}")
    @router.post("/proxy/dicom/{service}/{path:path}")
    async def proxy(request: Request, service: str, path: str) -> Response:
        """What the DICOM store answers. Only segmentations and the like may be written to it, by STOW-RS."""
        stores = service == "stow" and request.method == "POST"
        if not stores and (service not in ("qido", "wado") or request.method != "GET"):
            raise NotFound("there is nothing at this address")
        # Also where it is quoted again, as some programs on the way take that off.
        if any(unquote(part) in (".", "..") for part in path.split("/")):
            raise NotFound("there is nothing at this address")
        body = await request.body() if stores else None
        headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        return await run_in_threadpool(_forwarded, store, path, request.url.query, headers, body)

    return router


def is_shown(path: str, headers: Mapping[str, str]) -> bool:
    """Whether the answer to a request is what a browser shows as OHIF, and not a file or an image that it asks for."""
    return (path == "/ohif" or path.startswith("/ohif/")) and "text/html" in headers.get("accept", "")


def ohif_folder() -> Path | None:
    """The folder with the built OHIF of the package monailabel, which is not imported; None where it is not."""
    found = importlib.util.find_spec("monailabel")
    for place in (found.submodule_search_locations or ()) if found else ():
        folder = Path(place).resolve() / "endpoints" / "static" / "ohif"
        if (folder / "index.html").is_file():
            return folder
    return None


def _forwarded(store: DicomStore, path: str, query: str, headers: dict[str, str], body: bytes | None) -> Response:
    import requests

    try:
        answer = requests.request(
            "GET" if body is None else "POST",
            f"{store.url}/{quote(path)}",
            params=query,
            headers=headers,
            data=body,
            auth=store.login,
            stream=True,
            timeout=60,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        raise Unavailable("the DICOM store does not answer; look whether it runs") from error
    if answer.status_code in REFUSED:  # the server itself, and not who asks it
        answer.close()
        raise store.refusal()

    def parts() -> Iterator[bytes]:
        with answer:
            yield from answer.iter_content(CHUNK)

    return StreamingResponse(parts(), answer.status_code, media_type=answer.headers.get("content-type"))
