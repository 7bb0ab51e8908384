"""Endpoints of the models: what there is, and answers."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from deepedit import __version__
from deepedit.errors import DeepEditError
from deepedit.files import one_line
from deepedit.server.answers import Answer, encode, suffix_of
from deepedit.server.errors import Lost, NotFound
from deepedit.server.forms import Received, open_form
from deepedit.server.multipart import params_and_file
from deepedit.server.questions import STARTS, chosen_start, clicks_by_label, read_params, scribbles_of, wants_tta
from deepedit.server.requested import Question
from deepedit.server.scribbles import ScribbleQuestion
from deepedit.server.service import Served, Service, label_names
from deepedit.server.uploaded import IMAGES_SENT, LABELS_SENT

OUTPUTS = ("", "all", "image", "json")


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/info/")
    async def info() -> dict[str, Any]:
        """What the server is and offers; cheap, since clients ask time and again."""
        return describe(service)

    @router.post("/infer/{model}")
    async def infer(model: str, request: Request, image: str = "", session_id: str = "", output: str = "") -> Response:
        """A segmentation: automatic, from all clicks so far, or corrected by scribbles."""
        start = time.perf_counter()
        served = service.find(model)
        if output not in OUTPUTS:
            raise DeepEditError(f"output is one of {', '.join(OUTPUTS[1:])}; got {one_line(output, 40)!r}")
        async with open_form(request, service.kept, {"file": IMAGES_SENT, "label": LABELS_SENT}) as form:
            params = read_params(form.text("params"))
            async with named_images(service, form.files.get("file"), image, session_id) as images:
                suffix = suffix_of(params.get("result_extension"), images[0].name)
                case = None if "file" in form.files or session_id else image
                drawn = form.files.get("label")
                answer = await _answer(service, request, served, images, case, params, drawn)
            compress = params.get("result_compress") is not False
            content = b"" if output == "json" else await run_in_threadpool(encode, answer, suffix, compress)
        told = tell(answer, time.perf_counter() - start)
        if output == "json":
            return Response(_json(told), media_type="application/json")
        name = f"segmentation{suffix}"
        if output == "image":
            disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Response(content, media_type="application/octet-stream", headers=disposition)
        return params_and_file(told, name, content)

    @router.post("/infer/", include_in_schema=False)
    async def infer_nothing() -> None:
        raise NotFound("no model is named; choose one in the viewer")

    return router


def describe(service: Service) -> dict[str, Any]:
    """The answer to ``/info/``."""
    first, trains = service.sessions[0].labels, service.finetuning
    return {
        "name": f"DeepEdit {', '.join(first.names)}",
        "description": f"deepedit {__version__}",
        "version": __version__,
        "labels": label_names(service.labels),
        "models": {name: served.facts() for name, served in service.served.items()},
        "trainers": trains.trainers() if trains else {},
        "strategies": service.sampler.strategies(),
        "scoring": {},
        "train_stats": trains.stats() if trains else {},
        "datastore": service.studies.info(),
    }


def tell(answer: Answer, seconds: float) -> dict[str, Any]:
    """The parameters of an answer: the ranks of the labels, how long it took, and what is worth knowing."""
    latencies = {name: round(value, 4) for name, value in answer.seconds.items()} | {"total": round(seconds, 4)}
    ranks = {name: rank for rank, name in enumerate(answer.names, 1)}
    return {"label_names": ranks, "latencies": latencies, "centroids": {}, "notes": answer.notes}


@asynccontextmanager
async def named_images(
    service: Service, sent: Received | None, image: str, session_id: str
) -> AsyncIterator[tuple[Path, ...]]:
    """The files of the image that is asked about: sent along, sent before, or one of the studies.

    The server goes on meanwhile: a series may have to be fetched from a store.
    """
    if sent is not None:
        yield (sent.path,)
    elif session_id:
        with service.kept.using(session_id) as kept:
            if kept is None:
                raise Lost("image", "the image that the viewer sent is no longer kept; send it again")
            yield (kept.path,)
    elif image:
        yield await run_in_threadpool(service.studies.images, image)
    else:
        raise DeepEditError("no image is named, and none is sent along")


async def _answer(
    service: Service,
    request: Request,
    served: Served,
    images: tuple[Path, ...],
    case: str | None,
    params: Mapping[str, Any],
    drawn: Received | None,
) -> Answer:
    """What the model answers, once it is this request's turn."""
    labels, tta = served.sessions.labels, wants_tta(params)
    if served.kind == "scribbles":
        if drawn is None:
            raise DeepEditError("scribbles come with the segmentation that they correct, and none was sent")
        question = ScribbleQuestion(images, drawn.path, *scribbles_of(params), tta)
        return await service.worker.run(
            lambda on_progress, cancelled: served.sessions.scribble(question, on_progress, cancelled),
            request.is_disconnected,
        )
    clicks: dict[str, Any] = {}
    newest = start = None
    if served.kind == "deepedit":
        clicks, newest = clicks_by_label(params, labels)
        start = await run_in_threadpool(start_of, service, case, chosen_start(params))
    asked = Question(images, clicks, newest, start, tta)
    return await service.worker.run(
        lambda on_progress, cancelled: served.sessions.answer(asked, on_progress, cancelled),
        request.is_disconnected,
    )


def start_of(service: Service, case: str | None, start: str) -> Path | None:
    """The label map that clicks are to correct; None for the automatic result.

    Args:
        case: its id; None if the image is none of the studies.
    """
    if start == STARTS[0]:
        return None
    tag = "final" if start == STARTS[1] else "original"
    path = None if case is None else service.studies.label(case, tag)
    if path is None:
        raise NotFound(f"this image has no {start} to start from; choose {STARTS[0]} as start_from in the options")
    return path


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
