"""The files of the page, and the headers that keep it to itself."""

from pathlib import Path

from fastapi import Response
from fastapi.responses import FileResponse

from deepedit.server.errors import NotFound

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
"""What the page may load and do; browsers hold it to that."""
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of all that a page is sent: it is what it says it is, and for the page alone."""


def page_file(name: str) -> FileResponse:
    """A file of the page.

    Raises:
        NotFound: if there is none of that name.
    """
    # Compared with what is there, so that no name leads out of the folder.
    path = next((each for each in FOLDER.rglob("*") if each.relative_to(FOLDER).as_posix() == name), None)
    if path is None or path.suffix not in MEDIA_TYPES:
        raise NotFound("there is nothing at this address")
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", **SAFE}
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=headers)


def safe(response: Response) -> Response:
    """An answer with the headers that all have which are for a page."""
    response.headers.update(SAFE)
    return response
