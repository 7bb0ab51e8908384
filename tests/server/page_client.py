"""What a page does to speak to the server: it sends all steps, and keeps the voxels that it was sent."""

import http.client
import json
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import numpy as np


@dataclass
class Answer:
    """An answer of the server.

    Attributes:
        status, headers, body: as they came.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """The sentence of an error."""
        return self.json["detail"]


def ask(url: str, method: str, path: str, body: bytes | str | None = None, headers=None, **query) -> Answer:
    """Send a request on a connection of its own.

    Args:
        url: of the server.
        query: parameters of the address.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    prefix = urlsplit(url).path.rstrip("/")
    connection.request(method, f"{prefix}{path}" + (f"?{urlencode(query)}" if query else ""), body, headers or {})
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read())
    connection.close()
    return answer


def form(name: str, content: bytes, field: str = "file") -> tuple[bytes, dict[str, str]]:
    """The body of a form with one file, and its headers."""
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
    return head + content + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def opened(answer: Answer) -> tuple[dict, np.ndarray]:
    """The header of an answer, and its voxels ``[z, y, x]`` in display order."""
    assert answer.status == 200, answer.body
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    size = int.from_bytes(answer.body[:4], "little")
    header = json.loads(answer.body[4 : 4 + size])
    sides = [stop - start for start, stop in reversed(header["box"])]
    return header, np.frombuffer(answer.body, np.uint8, offset=4 + size).reshape(sides)


@dataclass
class Page:
    """A tab of a browser that shows one image.

    Attributes:
        url: of the server.
        query: names the image, as ``image`` or ``session_id``.
        asked: what all requests hold besides the steps.
        headers: of all requests.
    """

    url: str
    query: dict[str, str]
    asked: dict = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    known: str | None = None
    header: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.facts = ask(self.url, "GET", "/api/image", headers=self.headers, **self.query).json
        self.ranks = np.zeros(self.facts["shape"][::-1], np.uint8)

    def body(self, steps, **more) -> str:
        return json.dumps({**self.query, **self.asked, "steps": steps, **more})

    def post(self, path: str, steps, **more) -> Answer:
        return ask(self.url, "POST", path, self.body(steps, **more), self.headers)

    def segment(self, steps) -> np.ndarray:
        """What the page shows after these steps: class indices in the order of the file."""
        self.show(*opened(self.post("/api/segment", steps, known=self.known)))
        return in_file_order(self.ranks, self.facts)

    def show(self, header: dict, voxels: np.ndarray) -> None:
        if header["whole"]:
            self.ranks[:] = 0
        self.ranks[tuple(slice(*span) for span in reversed(header["box"]))] = voxels
        self.header, self.known = header, header["state"]


def in_file_order(voxels: np.ndarray, facts: dict) -> np.ndarray:
    """``[X, Y, Z]`` of the file, of what is ``[z, y, x]`` of the display."""
    display = voxels.T
    for number, axis in enumerate(facts["axes"]):
        if axis["flipped"]:
            display = np.flip(display, number)
    return display.transpose(np.argsort([axis["axis"] for axis in facts["axes"]]))
