"""How the server shows a DICOM store who it is: by a user and a password, or by a bearer token, of a file."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading
from deepedit.server.errors import Unavailable

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

LARGEST = 2**16  # bytes of the file; tokens have a few thousand
REFUSED = (401, 403)


class StoreLogin:
    """Puts into each request to a store what a file says, and reads it anew when the store does not take it any more.

    Tokens such as ``gcloud auth print-access-token`` gives end after an hour, so that something else keeps the file
    new. This is an ``auth`` of the package requests. What the file holds is kept out of messages and of ``repr``.

    Args:
        path: of a file whose one line is ``user:password``, or a bearer token.
        url: of the store; nothing else is told it, wherever the store sends requests on to.

    Raises:
        FileError: if the file cannot be read, or holds something else.
    """

    def __init__(self, path: str | os.PathLike[str], url: str) -> None:
        self._path, self._origin = Path(path), _origin(url)
        self._shown = read_login(path)

    def __call__(self, request: "PreparedRequest") -> "PreparedRequest":
        if _origin(request.url or "") == self._origin:
            request.headers["Authorization"] = self._shown
            request.register_hook("response", self._renewed)
        return request

    def _renewed(self, response: "Response", **options: Any) -> "Response":
        """The answer to a request that was refused, or to the same with what the file holds by now."""
        asked = response.request
        if response.status_code != 401 or _origin(asked.url or "") != self._origin:
            return response
        try:
            self._shown = read_login(self._path)
        except FileError as error:
            raise Unavailable(f"the DICOM store wants to be logged in to anew: {error}") from error
        # A body that is made while it is sent is gone.
        again = isinstance(asked.body, bytes | str | None)
        if not again or self._shown == asked.headers.get("Authorization"):
            return response
        response.content  # noqa: B018  # is read, so that the connection is free
        response.close()
        request = asked.copy()
        request.headers["Authorization"] = self._shown
        send: Callable[..., Response] = response.connection.send
        answer = send(request, **options)
        answer.history.append(response)
        answer.request = request
        return answer


def read_login(path: str | os.PathLike[str]) -> str:
    """The header Authorization for a file whose one line is ``user:password``, or a bearer token.

    Raises:
        FileError: if it cannot be read, or holds something else, which the message does not repeat.
    """
    name = one_line(path)
    try:
        with open_for_reading(path) as file:
            text = file.read(LARGEST + 1).decode("utf-8")
    except OSError as error:
        raise FileError(f"{name}: cannot be read: {error.strerror}; check the file") from error
    except UnicodeDecodeError:
        text = ""
    line = text.removesuffix("\n").removesuffix("\r")
    user, colon, _ = line.partition(":")
    if line.isprintable() and len(line) < LARGEST:
        if colon and user:
            return f"Basic {base64.b64encode(line.encode()).decode()}"
        if line and not colon and line.isascii() and " " not in line:
            return f"Bearer {line}"
    raise FileError(f"{name}: does not log in to a DICOM store; write one line, user:password or a bearer token, alone")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port
