"""The page: its files, and the endpoints that it needs beside those of MONAI Label's protocol."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from deepedit.colours import colour
from deepedit.errors import DeepEditError
from deepedit.server.asked import Asked, body_of, read_asked
from deepedit.server.changes import changes, framed, streamed, uncertainty
from deepedit.server.errors import NotFound
from deepedit.server.inference import named_images, start_of
from deepedit.server.service import VERSION, Served, Service
from deepedit.server.sessions import EMPTY, Place, Visit

T = TypeVar("T")

FOLDER = Path(__file__).parent / "page"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
"""Of the page's files. They are not looked up in the system's list, which on some systems is wrong for scripts."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
PAGE_HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", **SAFE}


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["page"])

    @router.get("/", include_in_schema=False)
    async def index() -> Response:
        return page_file("index.html")

    @router.get("/page/{name:path}", include_in_schema=False)
    async def file(name: str) -> Response:
        return page_file(name)

    @router.get("/api/")
    async def about() -> dict[str, Any]:
        """What a page can ask for."""
        return {
            "version": VERSION,
            "models": [_described(served) for served in service.served.values() if served.kind == "deepedit"],
            "studies": True,
            "trains": service.finetuning is not None,
            "strategies": service.sampler.strategies(),
            "login": service.access.token is not None,
        }

    @router.get("/api/image")
    async def image(
        image: str = "",
        session_id: str = "",
        channel: int = 0,
        part: Literal["facts", "voxels"] = "facts",
        model: str = "deepedit",
    ) -> Response:
        """An image in the display's order of axes: the facts as JSON, or the voxels."""
        reading = service.find(model).sessions.model.plan.reading
        with named_images(service, None, image, session_id) as images:
            picture = await run_in_threadpool(service.pictures.of, images, reading, channel)
        return _json(picture.facts) if part == "facts" else _safe(streamed([picture.voxels]))

    @router.post("/api/segment", openapi_extra=body_of(Asked))
    async def segment(request: Request) -> Response:
        """The segmentation that has these steps, as far as it differs from what the page shows."""
        began, asked = time.perf_counter(), await read_asked(request)
        served = _clicked(service, asked)

        def look(visit: Visit) -> tuple[dict[str, Any], Any]:
            looked = time.perf_counter()
            shown = changes(visit, served.sessions.told(visit.cached.about.image, asked.known))
            return shown.header | {"seconds": visit.seconds | {"post": time.perf_counter() - looked}}, shown.voxels

        header, voxels = await visited(service, request, asked, look)
        header["seconds"]["total"] = time.perf_counter() - began
        return _safe(framed(header, voxels))

    @router.post("/api/uncertainty", openapi_extra=body_of(Asked))
    async def entropy(request: Request) -> Response:
        """How uncertain the network is about each voxel after these steps, from 0 to 255."""
        asked = await read_asked(request)
        shown = await visited(service, request, asked, uncertainty)
        return _safe(framed(shown.header, shown.voxels))

    return router


async def visited(service: Service, request: Request, asked: Asked, use: Callable[[Visit], T]) -> T:
    """What a function makes of the session that a page asks about, once it is this request's turn."""
    served = _clicked(service, asked)
    with named_images(service, None, asked.image or "", asked.session_id or "") as images:
        start = _start(service, asked)
        steps = [step.model_dump() for step in asked.steps]
        place = Place(images, steps, start, asked.tta)
        return await service.worker.run(
            lambda on_progress, cancelled: served.sessions.visit(place, use, on_progress, cancelled),
            request.is_disconnected,
            asked.request,
        )


def page_file(name: str) -> FileResponse:
    """A file of the page.

    Raises:
        NotFound: if there is none of that name.
    """
    # Compared with what is there, so that no name leads out of the folder.
    path = next((each for each in FOLDER.rglob("*") if each.relative_to(FOLDER).as_posix() == name), None)
    if path is None or path.suffix not in MEDIA_TYPES:
        raise NotFound("there is nothing at this address")
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=PAGE_HEADERS)


def _described(served: Served) -> dict[str, Any]:
    plan = served.sessions.model.plan
    labels = [
        {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour(index))}
        for index, name in enumerate(plan.labels.names, start=1)
    ]
    return {"name": served.name, "labels": labels, "previous": plan.previous, "channels": plan.image_channels}


def _clicked(service: Service, asked: Asked) -> Served:
    served = service.find(asked.model)
    if served.kind != "deepedit":
        raise NotFound(f"the model {asked.model} takes no clicks; choose another")
    return served


def _start(service: Service, asked: Asked) -> Path | str | None:
    if asked.start.kind == "empty":
        return EMPTY
    if asked.start.kind == "sent":
        raise DeepEditError("not yet")
    return start_of(service, asked.image, asked.start.kind)


def _json(content: object) -> Response:
    from fastapi.responses import JSONResponse

    return JSONResponse(content, headers=SAFE)


def _safe(response: Response) -> Response:
    response.headers.update(SAFE)
    return response
