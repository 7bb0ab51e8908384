"""Answers that hold parameters and a file, as MONAI Label's clients read them."""

import json
import secrets
from collections.abc import Mapping

from fastapi import Response


def params_and_file(params: Mapping[str, object], name: str, content: bytes) -> Response:
    """``multipart/form-data`` with the parameters first and the file second.

    The clients need a Content-Length, a plain file name whose suffix tells the format, and
    ``application/octet-stream`` spelt so.
    """
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(params)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = b"".join((head.encode(), content, f"\r\n--{boundary}--\r\n".encode()))
    return Response(body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})


def attachment(name: str) -> str:
    """A Content-Disposition header with any file name: plain for old readers, and in UTF-8."""
    from urllib.parse import quote

    plain = "".join(sign if sign.isascii() and sign.isprintable() and sign not in '"\\' else "_" for sign in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
