"""Endpoints of the page about a segmentation: answers to clicks, what they begin with, and what becomes of it."""

import io
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line
from deepedit.io.suffixes import LABELS_WRITTEN, stem
from deepedit.io.volumes import write_label
from deepedit.server.answers import Answer, encode, ranks_of
from deepedit.server.asked import Asked, Saved, read_asked
from deepedit.server.changes import Shown, changes, framed, uncertainty
from deepedit.server.described import Header, binary, body_of, file_body, form_with
from deepedit.server.errors import Changed, Lost, NotFound
from deepedit.server.forms import open_form
from deepedit.server.inference import named_images, start_of
from deepedit.server.multipart import attachment
from deepedit.server.page_files import SAFE, safe
from deepedit.server.requested import EMPTY, Place
from deepedit.server.restoring import restored
from deepedit.server.service import Served, Service
from deepedit.server.sessions import Visit
from deepedit.server.starts import read_start
from deepedit.server.uploaded import LABELS_SENT

T = TypeVar("T")

SESSION = ".npz"
RANKS = "a header, and for each voxel of its box a byte, x adjacent: 0, or 1..n for the labels in order"


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["page"])

    @router.post("/api/segment", openapi_extra=body_of(Asked), responses=binary(RANKS, Header))
    async def segment(request: Request) -> Response:
        """The segmentation that has these steps, as far as it differs from what the page shows."""
        began, asked = time.perf_counter(), await read_asked(request)
        told = _clicked(service, asked.model).sessions.told

        def look(visit: Visit) -> Shown:
            looked = time.perf_counter()
            shown = changes(visit, told(visit.cached.about.image, asked.known))
            visit.seconds["post"] = time.perf_counter() - looked
            return Shown(shown.header | {"seconds": visit.seconds}, shown.voxels)

        shown = await visited(service, request, asked, look)
        shown.header["seconds"]["total"] = time.perf_counter() - began
        return safe(framed(shown.header, shown.voxels))

    @router.post("/api/uncertainty", openapi_extra=body_of(Asked), responses=binary("a header, and voxels"))
    async def entropy(request: Request) -> Response:
        """How uncertain the network is about each voxel after these steps, from 0 to 255."""
        shown = await visited(service, request, await read_asked(request), uncertainty)
        return safe(framed(shown.header, shown.voxels))

    @router.post("/api/save", openapi_extra=body_of(Saved), responses=binary("a label map"))
    async def save(request: Request) -> Response:
        """The segmentation after these steps as a file, on the image's own grid and with the values of the files."""
        asked = await read_asked(request, Saved)
        if asked.suffix not in LABELS_WRITTEN:
            raise DeepEditError(f"suffix is one of {', '.join(LABELS_WRITTEN)}; got {one_line(asked.suffix, 40)!r}")
        labels = _clicked(service, asked.model).sessions.labels
        values, image = await visited(service, request, asked, _as_shown(asked, _values))
        names = dict(zip(labels.values, labels.names, strict=True))
        content = await run_in_threadpool(_file, values, image, names, asked.suffix)
        name = f"{await run_in_threadpool(_called, service, asked)}-segmentation{asked.suffix}"
        headers = {"Content-Disposition": attachment(name), **SAFE}
        return Response(content, media_type="application/octet-stream", headers=headers)

    @router.post("/api/submit", openapi_extra=body_of(Asked))
    async def submit(request: Request) -> JSONResponse:
        """Store the segmentation after these steps as the submitted label of an image of the studies."""
        service.require_folder()
        asked = await read_asked(request)
        if not asked.image:
            raise DeepEditError("only images of the folder of studies can be submitted; save the segmentation instead")
        labels = _clicked(service, asked.model).sessions.labels
        answer = await visited(service, request, asked, _as_shown(asked, _answer))
        segments = [{"name": name} for name in labels.names]
        return JSONResponse({"image": await run_in_threadpool(_submit, service, asked.image, answer, segments)})

    @router.put("/api/start", openapi_extra=form_with("file"))
    async def start(request: Request, image: str = "", session_id: str = "", model: str = "deepedit") -> JSONResponse:
        """Keep a label map for segmentations to start from."""
        sessions = _clicked(service, model).sessions
        async with (
            named_images(service, None, image, session_id) as images,
            open_form(request, service.kept, {"file": LABELS_SENT}) as form,
        ):
            if "file" not in form.files:
                raise DeepEditError("the request holds no file in its field 'file'")
            sent = form.files["file"]
            told = await run_in_threadpool(read_start, service.starts, sent, images[0], sessions.model.plan)
        return JSONResponse(told, headers=SAFE)

    @router.post("/api/session", openapi_extra=body_of(Asked), responses=binary("a session"))
    async def save_session(request: Request) -> Response:
        """The session after these steps as a file, which `InteractiveSession.load_session` reads."""
        asked = await read_asked(request)
        name = f"{await run_in_threadpool(_called, service, asked)}-session{SESSION}"
        with service.kept.receive(io.BytesIO(), SESSION) as path:
            await visited(
                service, request, asked, _as_shown(asked, lambda visit: visit.cached.session.save_session(path))
            )
            sent = path.rename(path.with_name(f"sent-{path.name}"))
        return SentOnce(sent, headers={"Content-Disposition": attachment(name), **SAFE})

    @router.put("/api/session", openapi_extra=file_body())
    async def load_session(
        request: Request,
        image: str = "",
        session_id: str = "",
        model: str = "deepedit",
        progress: str | None = None,
    ) -> JSONResponse:
        """The steps and the start of a session in a file, which is the body of the request."""
        sessions = _clicked(service, model).sessions
        async with named_images(service, None, image, session_id) as images:
            with service.kept.receive(io.BytesIO(), SESSION) as path:
                with path.open("wb") as file:
                    async for part in request.stream():
                        file.write(part)
                told = await service.worker.run(
                    lambda on_progress, cancelled: restored(
                        sessions, service.starts, images, path, on_progress, cancelled
                    ),
                    request.is_disconnected,
                    progress,
                )
        return JSONResponse(told, headers=SAFE)

    return router


async def visited(service: Service, request: Request, asked: Asked, use: Callable[[Visit], T]) -> T:
    """What a function makes of the session that a page asks about, once it is this request's turn."""
    served = _clicked(service, asked.model)
    steps = [step.model_dump(exclude_unset=True) for step in asked.steps]
    async with (
        named_images(service, None, asked.image or "", asked.session_id or "") as images,
        _start(service, asked) as start,
    ):
        place = Place(images, steps, start, asked.tta)
        return await service.worker.run(
            lambda on_progress, cancelled: served.sessions.visit(place, use, on_progress, cancelled),
            request.is_disconnected,
            asked.request,
        )


def _as_shown(asked: Asked, use: Callable[[Visit], T]) -> Callable[[Visit], T]:
    """The function, for segmentations that a page shows: what was fine-tuned or submitted since makes others of them.

    Raises:
        Changed: by what is returned, if the page shows another one.
    """

    def checked(visit: Visit) -> T:
        if asked.known not in (None, visit.state):
            raise Changed("the segmentation is no longer the one that is shown; look at the new one, and try again")
        return use(visit)

    return checked


class SentOnce(FileResponse):
    """An answer with a file that goes when it was sent, or could not be."""

    async def __call__(self, *arguments: Any) -> None:
        try:
            await super().__call__(*arguments)
        finally:
            Path(self.path).unlink(missing_ok=True)


@asynccontextmanager
async def _start(service: Service, asked: Asked) -> AsyncIterator[Path | str | None]:
    """What the steps begin with, as of `Place`."""
    kind, key = asked.start.kind, asked.start.key
    if kind == "empty":
        yield EMPTY
    elif kind == "sent":
        with service.starts.using(key or "") as kept:
            if kept is None:
                raise Lost("start", "the segmentation that the page began with is no longer kept; send it again")
            try:
                yield kept.path
            except FileError as error:
                raise FileError(str(error).replace(one_line(kept.path), "the segmentation to start from")) from error
    else:
        yield await run_in_threadpool(start_of, service, asked.image, kind)


def _clicked(service: Service, model: str) -> Served:
    """A model that takes clicks."""
    served = service.find(model)
    if served.kind != "deepedit":
        raise NotFound(f"the model {one_line(model, 60)} takes no clicks; choose another")
    return served


def _called(service: Service, asked: Asked) -> str:
    """What files about an image are called."""
    if asked.image:
        return service.studies.id_of(asked.image)
    kept = service.kept.find(asked.session_id or "")
    return stem(kept.name) if kept else "image"


def _values(visit: Visit) -> tuple[np.ndarray, Any]:
    session = visit.cached.session
    return session.predict(), session.image


def _file(values: np.ndarray, image: Any, names: dict[int, str], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="deepedit-") as folder:
        path = Path(folder) / f"segmentation{suffix}"
        write_label(path, values, image, names)
        return path.read_bytes()


def _answer(visit: Visit) -> Answer:
    session = visit.cached.session
    return Answer(ranks_of(session.classes()), session.image, session.model.plan.labels.names)


def _submit(service: Service, case: str, answer: Answer, segments: list[dict[str, str]]) -> str:
    with service.kept.receive(io.BytesIO(encode(answer, ".nii")), ".nii") as path:
        return service.studies.submit(case, path, ".nii", segments)
