"""Endpoints of the studies: images, label maps, images that a viewer works on for a while, and the next sample."""

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from deepedit.errors import DeepEditError
from deepedit.files import one_line
from deepedit.server.errors import NotFound
from deepedit.server.forms import Form, Received, open_form
from deepedit.server.multipart import attachment
from deepedit.server.questions import read_params
from deepedit.server.service import Service
from deepedit.server.uploaded import IMAGES_SENT, LABELS_SENT
from deepedit.server.uploads import DICOM

LARGEST_JSON = 2**20


def routes(service: Service) -> APIRouter:
    router, studies = APIRouter(tags=["data"]), service.studies

    @router.get("/datastore/")
    async def datastore(output: str = "stats") -> JSONResponse:
        """How many cases there are and are done; all of them with ``output=all``; pairs with ``output=train``."""
        ways = {"stats": studies.info, "all": studies.listing, "train": studies.train_pairs}
        if output not in ways:
            raise DeepEditError(f"output is one of {', '.join(ways)}; got {one_line(output, 40)!r}")
        return JSONResponse(await run_in_threadpool(ways[output]))

    @router.put("/datastore/")
    @router.put("/datastore/image")
    async def add_image(request: Request, image: str = "") -> dict[str, str]:
        """Add an image to the studies; the answer tells the id that it got."""
        service.require_folder()
        async with open_form(request, service.kept, {"file": (*IMAGES_SENT, DICOM)}) as form:
            sent = _sent(form, "file")
            given = await run_in_threadpool(studies.add_image, image or sent.name, sent.path, sent.suffix)
        return {"image": given}

    @router.head("/datastore/image", include_in_schema=False)
    @router.get("/datastore/image")
    async def get_image(image: str) -> FileResponse:
        """The file of an image."""
        return _file(await run_in_threadpool(studies.image_file, image))

    @router.get("/datastore/image/info")
    async def image_info(image: str) -> JSONResponse:
        """Facts of an image."""
        return JSONResponse(await run_in_threadpool(studies.image_info, image))

    @router.put("/datastore/image/info")
    async def set_image_info(request: Request, image: str) -> dict[str, Any]:
        """Remember facts of an image."""
        facts = await read_json(request)
        await run_in_threadpool(studies.set_image_info, image, facts)
        return {}

    @router.put("/datastore/label")
    async def add_label(request: Request, image: str, tag: str = "final") -> dict[str, str]:
        """Submit the label map of an image."""
        service.require_folder()
        async with open_form(request, service.kept, {"label": LABELS_SENT}) as form:
            sent, params = _sent(form, "label"), read_params(form.text("params"))
            listed = params.get("label_info")
            label = await run_in_threadpool(studies.submit, image, sent.path, sent.suffix, listed, tag)
        return {"image": image, "label": label}

    @router.get("/datastore/label")
    async def get_label(label: str, tag: str = "final") -> FileResponse:
        """The label map of an image."""
        return _file(await run_in_threadpool(studies.label_file, label, tag))

    @router.delete("/datastore/label")
    async def remove_label(id: str, tag: str = "final") -> dict[str, Any]:
        """Take a label map away; it is kept aside."""
        await run_in_threadpool(studies.remove_label, id, tag)
        return {}

    @router.get("/datastore/label/info")
    async def label_info(label: str, tag: str = "final") -> JSONResponse:
        """Facts of a label map."""
        return JSONResponse(await run_in_threadpool(studies.label_info, label, tag))

    @router.put("/datastore/label/info")
    @router.put("/datastore/updatelabelinfo")
    async def set_label_info(request: Request, label: str, tag: str = "final") -> dict[str, Any]:
        """Remember facts of a label map."""
        facts = await read_json(request)
        await run_in_threadpool(studies.set_label_info, label, tag, facts)
        return {}

    @router.put("/session/")
    async def keep_image(request: Request, expiry: int = 0) -> dict[str, Any]:
        """Keep an image for as long as a viewer works on it."""
        async with open_form(request, service.kept, {"files": IMAGES_SENT, "file": IMAGES_SENT}) as form:
            sent = form.files.get("files") or _sent(form, "file")
            kept = await run_in_threadpool(service.kept.keep, sent.path, sent.suffix, sent.name, expiry)
        return {"session_id": kept.key, "session_info": kept.facts()}

    @router.get("/session/{key}")
    async def kept_image(key: str, image: bool = False) -> Response:
        """Whether an image is still kept; nothing if it is gone, so that 3D Slicer sends it again."""
        kept = service.kept.find(key)
        if image:
            if kept is None:
                raise NotFound("the image is no longer kept; send it again")
            return _file(kept.path)
        return JSONResponse(kept.facts() if kept else {})

    @router.delete("/session/{key}")
    async def forget_image(key: str) -> dict[str, Any]:
        """Give up an image before its time."""
        service.kept.remove(key)
        return {}

    @router.post("/activelearning/{strategy}")
    async def next_sample(strategy: str, request: Request) -> JSONResponse:
        """The next image to segment; nothing if all are done."""
        asked = await read_json(request)
        client = str(asked.get("client_id", ""))[:200]
        return JSONResponse(await run_in_threadpool(service.sampler.next, strategy, client))

    return router


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object that a request holds; an empty one if it holds nothing.

    Raises:
        DeepEditError: if it is something else.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_JSON:
            raise DeepEditError("the request holds more than a mebibyte of JSON")
    try:
        found = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise DeepEditError("the request holds no JSON") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise DeepEditError("the request holds JSON that is no object")
    return found


def _sent(form: Form, field: str) -> Received:
    if field not in form.files:
        raise DeepEditError(f"the request holds no file in its field {field!r}")
    return form.files[field]


def _file(path: Path) -> FileResponse:
    headers = {"Content-Disposition": attachment(path.name)}
    return FileResponse(path, media_type="application/octet-stream", headers=headers)
