"""Endpoints of the page: its files, what it can ask for, and images."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from deepedit import __version__
from deepedit.colours import colour
from deepedit.io.studies_folder import FINAL, ORIGINAL
from deepedit.server.changes import streamed
from deepedit.server.inference import named_images
from deepedit.server.login import exchanged
from deepedit.server.page_files import SAFE, page_file, safe
from deepedit.server.service import Served, Service


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["page"])

    @router.head("/", include_in_schema=False)
    @router.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        key = request.query_params.get("key")
        return page_file("index.html") if key is None else exchanged(service.access, key, request)

    @router.get("/page/{name:path}", include_in_schema=False)
    async def file(name: str) -> Response:
        return page_file(name)

    @router.get("/api/")
    async def about() -> JSONResponse:
        """What a page can ask for."""
        told = {
            "version": __version__,
            "models": [_described(served) for served in service.served.values() if served.kind == "deepedit"],
            "studies": service.stores,
            "image": None if service.stores else service.studies.ids()[0],
            "training": service.finetuning is not None,
            "strategies": list(service.sampler.strategies()) if service.stores else [],
            "login": service.access.token is not None,
        }
        return JSONResponse(told, headers=SAFE)

    @router.get("/api/cases")
    async def cases() -> JSONResponse:
        """The images of the studies, in natural order."""
        return JSONResponse(await run_in_threadpool(_cases, service), headers=SAFE)

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
        async with named_images(service, None, image, session_id) as images:
            picture = await run_in_threadpool(service.pictures.of, images, reading, channel)
        return safe(JSONResponse(picture.facts) if part == "facts" else streamed([picture.voxels]))

    @router.get("/api/progress")
    async def progress(request: str) -> JSONResponse:
        """How far a request is, by the name that it came with."""
        return JSONResponse(service.worker.state(request), headers=SAFE)

    return router


def _described(served: Served) -> dict[str, Any]:
    plan = served.sessions.model.plan
    labels = [
        {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour(index))}
        for index, name in enumerate(plan.labels.names, start=1)
    ]
    return {"name": served.name, "labels": labels, "previous": plan.previous, "channels": plan.image_channels}


def _cases(service: Service) -> list[dict[str, Any]]:
    objects = service.studies.listing()["objects"]
    found = []
    for each, described in objects.items():
        case = {"id": each, "submitted": FINAL in described["labels"], "original": ORIGINAL in described["labels"]}
        score = service.scores.of(service.studies.images(each))
        found.append(case if score is None else {**case, "uncertainty": score})
    return found
