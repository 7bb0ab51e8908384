"""Endpoints of logging in from a browser."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from deepedit.server.access import Access
from deepedit.server.cookies import Logins
from deepedit.server.data import read_json
from deepedit.server.described import object_of


def set_cookie(response: Response, logins: Logins, request: Request) -> None:
    """Let a browser be known from now on.

    The cookie has no path of its own: browsers then take the folder of the address that set it, as they see it, and so
    all of the server, also behind a proxy that adds a prefix. That is why the addresses which set it lie at the top.
    """
    response.set_cookie(
        logins.name,
        logins.cookie(),
        path=None,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def routes(access: Access) -> APIRouter:
    router = APIRouter(tags=["access"])

    @router.post("/login", openapi_extra=object_of(token="string"))
    async def log_in(request: Request) -> JSONResponse:
        """Exchange the server's token for a cookie."""
        address = address_of(request)
        if not access.may_try(address):
            return JSONResponse({"detail": "too many wrong tokens from this address; wait a minute"}, 429)
        shown = (await read_json(request)).get("token")
        if not access.admits(shown if isinstance(shown, str) else "", address):
            access.count_wrong(address)
            return JSONResponse({"detail": "this is not the server's token"}, 401)
        response = JSONResponse({})
        if access.logins is not None:
            set_cookie(response, access.logins, request)
        return response

    @router.post("/logout")
    async def log_out() -> JSONResponse:
        """Give up the cookie."""
        response = JSONResponse({})
        if access.logins is not None:
            name = access.logins.name
            response.delete_cookie(name, path=None, httponly=True, samesite="strict")  # type: ignore[arg-type]  # may be None
        return response

    return router


def exchanged(access: Access, key: str, request: Request) -> RedirectResponse:
    """The answer to an address with a one-time key: the same without it, and a cookie if the key is good."""
    response = RedirectResponse("./", 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    address = address_of(request)
    if access.logins is not None and access.may_try(address):
        if access.logins.redeem(key):
            set_cookie(response, access.logins, request)
        else:
            access.count_wrong(address)
    return response


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""
