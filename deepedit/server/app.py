"""The web application: who may come in, how errors are told, and the endpoints."""

import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepedit import __version__
from deepedit.errors import DeepEditError
from deepedit.server import data, editing, inference, login, ohif, pages, tasks
from deepedit.server.access import Access
from deepedit.server.page_files import SAFE
from deepedit.server.places import Places
from deepedit.server.service import Service
from deepedit.server.uploads import Counted, refuse_announced

OPEN_PATHS = frozenset({"/auth/", "/auth/token", "/", "/login", "/logout"})
"""What is told without a token: whether there is one, and how to log in; the page does that itself."""
OPEN_FOLDER = "/page/"
"""Of the page's files."""


def create_app(service: Service) -> FastAPI:
    """The application that serves a service; the service is closed when it ends."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="DeepEdit",
        description="Automatic and interactive segmentation by MONAI Label's protocol.",
        version=__version__,
        lifespan=life,
        redirect_slashes=False,  # the clients follow no redirection
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(inference.routes(service))
    app.include_router(data.routes(service))
    app.include_router(tasks.routes(service))
    app.include_router(pages.routes(service))
    app.include_router(editing.routes(service))
    app.include_router(login.routes(service.access))
    if service.store is not None:
        app.include_router(ohif.routes(service.store))
    _tell_errors(app, service.places)
    if service.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(service.access.origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Counted)
    app.add_middleware(Guard, access=service.access)
    app.add_middleware(Failures, say=service.say)
    return app


class Failures:
    """An ASGI application that answers what nobody foresaw in one sentence, and lets the server go on.

    Args:
        app: the application behind it.
        say: is told where it happened, but not what an exception says: that may hold what is in a file.
    """

    def __init__(self, app: ASGIApp, say: Callable[[str], None]) -> None:
        self.app, self.say = app, say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def sending(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except ClientDisconnect:  # while it sent something
            return
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self.say(f"error: {type(error).__name__} in {frame.filename}, line {frame.lineno}, {frame.name}")
            if scope["type"] == "http" and not answered:
                failed = refused(500, "the server failed; whoever runs it finds the place in its output")
                await failed(scope, receive, send)


class Guard:
    """An ASGI application that lets in whom `Access` lets in.

    Args:
        app: the application behind it.
        access: what is asked for.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, access = Headers(scope=scope), self.access
        host, origin = headers.get("host", ""), headers.get("origin")
        if not access.knows_host(host):
            return refused(403, "this server is not called by that name; start it with --allow-host and the name")
        if not access.knows_origin(origin, host):
            return refused(403, "web pages of that origin may not speak to this server; --allow-origin lets them")
        try:
            refuse_announced(headers)
        except DeepEditError as error:
            return refused(getattr(error, "status", 400), str(error))
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        preflight = scope["method"] == "OPTIONS" and origin is not None
        if access.token is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDER) or preflight:
            return None
        if access.logins is not None and access.logins.admits(headers.get("cookie", "")):
            return None
        address = scope["client"][0] if scope.get("client") else ""
        if not access.may_try(address):
            return refused(429, "too many wrong tokens from this address; wait a minute")
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and access.admits(shown.strip(), address):
            return None
        # 3D Slicer shows no token where it downloads an image.
        if path == "/datastore/image" and scope["method"] in ("GET", "HEAD") and access.is_remembered(address):
            return None
        if shown:
            access.count_wrong(address)
        asks = {"WWW-Authenticate": "Bearer"}
        if ohif.is_shown(path, headers):
            return HTMLResponse(ohif.LOG_IN.format("../" * (path.count("/") - 1) or "./"), 401, {**asks, **SAFE})
        return refused(401, "log in first: the password is the server's token", asks)


def refused(
    status: int,
    sentence: str,
    headers: Mapping[str, str] | None = None,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> JSONResponse:
    """An answer that is an error; clients show the sentence to their users, and go by the facts."""
    return JSONResponse({"detail": sentence, **facts}, status, headers)


def _tell_errors(app: FastAPI, places: Places) -> None:
    """Answer errors of a request with one sentence."""

    @app.exception_handler(DeepEditError)
    async def known(request: Request, error: DeepEditError) -> JSONResponse:
        sentence = places.hidden(str(error))
        return refused(getattr(error, "status", 400), sentence, facts=getattr(error, "facts", {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        return refused(400, f"the request is not as it should be: {where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        sentences = {404: "there is nothing at this address", 405: "this address does not take such requests"}
        return refused(error.status_code, sentences.get(error.status_code, str(error.detail)), error.headers)
