"""Endpoints of fine-tuning, and of logging in."""

from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from deepedit.files import one_line
from deepedit.server.data import read_json
from deepedit.server.errors import NotFound, Unavailable
from deepedit.server.finetuning import FineTuning
from deepedit.server.service import Service

LARGEST_LOGIN = 2**14


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    def told(task: dict[str, Any]) -> dict[str, Any]:
        """A training as clients are told of it: its lines say where files lie."""
        return {**task, "details": [service.places.hidden(line) for line in task["details"]]}

    @router.post("/train/{trainer}", tags=["training"])
    async def train(trainer: str, request: Request) -> dict[str, Any]:
        """Fine-tune the model on what was submitted."""
        tuning = _tuning(service)
        if trainer not in tuning.trainers():
            known = ", ".join(tuning.trainers())
            raise NotFound(f"there is no trainer {one_line(trainer, 60)!r}; there is {known}")
        return told(await run_in_threadpool(tuning.start, await read_json(request)))

    @router.post("/train/", tags=["training"])
    async def train_all(request: Request) -> dict[str, Any]:
        """The same, with the settings of each trainer by its name."""
        tuning, asked = _tuning(service), await read_json(request)
        (name,) = tuning.trainers()
        own = asked.get(name, {})
        return told(await run_in_threadpool(tuning.start, own if isinstance(own, dict) else {}))

    @router.get("/train/", tags=["training"])
    async def training(check_if_running: bool = False) -> dict[str, Any]:
        """The newest fine-tuning; with `check_if_running` an error unless it is still running."""
        tuning = service.finetuning
        task = tuning.status() if tuning else None
        if tuning is None or task is None or (check_if_running and not tuning.running):
            raise NotFound("no model is being fine-tuned")
        return told(task)

    @router.delete("/train/", tags=["training"])
    async def stop_training() -> JSONResponse:
        """Stop it."""
        task = await run_in_threadpool(service.finetuning.stop) if service.finetuning else None
        return JSONResponse(None if task is None else told(task))

    @router.get("/auth/", tags=["access"])
    async def access() -> dict[str, Any]:
        """Whether to log in."""
        return {"enabled": service.access.token is not None}

    @router.post("/auth/token", tags=["access"])
    async def log_in(request: Request) -> Response:
        """Log in with any name, and the server's token as password."""
        address = request.client.host if request.client else ""
        if not service.access.may_try(address):
            return JSONResponse({"detail": "too many wrong passwords from this address; wait a minute"}, 429)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_LOGIN:
                break
        shown = parse_qs(body[:LARGEST_LOGIN].decode("utf-8", "replace")).get("password", [""])[0]
        if not service.access.admits(shown, address):
            service.access.count_wrong(address)
            return JSONResponse({"detail": "wrong password; it is the server's token"}, 401)
        return JSONResponse({"access_token": shown, "token_type": "bearer"})

    @router.get("/auth/token/valid", tags=["access"])
    async def logged_in() -> dict[str, Any]:
        """Whether the token that was shown is the server's."""
        return {"valid": True}

    return router


def _tuning(service: Service) -> FineTuning:
    if service.finetuning is None:
        raise Unavailable("this server does not train; start it without --no-train")
    return service.finetuning
