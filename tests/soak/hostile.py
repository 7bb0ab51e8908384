"""Requests to a server as they should be, and as nobody expects them."""

import gzip
import json
import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, quote_from_bytes

import nibabel as nib
import numpy as np

from tests.soak.mutations import damaged, damaged_json, hostile_value
from tests.soak.server import BOUNDARY

SHAPE = (8, 10, 12)
"""Of the images that requests are about."""
MARK = "left-behind-by-an-attack"
"""In the names of files that requests try to write."""
HOSTS = ("evil.example", "127.0.0.1.evil.example", "", "localhost.evil:80", "[::2]", "0.0.0.0")
ORIGINS = ("http://evil.example", "null", "https://127.0.0.1.evil.example", "file://", "")
ELSEWHERE = (*(("Host", host) for host in HOSTS), *(("Origin", origin) for origin in ORIGINS))
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".dcm", ".exe", ".nhdr", ".hdr", "", ".NII")
HEADERS = ("Content-Length", "Content-Type", "Transfer-Encoding", "Authorization", "Expect", "Cookie")
HEADER_VALUES = (
    *("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 300),
    *("application/json", "application/x-www-form-urlencoded", "gzip", "chunked", "100-continue", "Bearer é"),
    *("-1", "0", "1e9", str(2**40)),
)


@dataclass(frozen=True)
class Request:
    """A request, piece by piece.

    Attributes:
        query: names and values, or bytes to be sent as they are.
        params: what the field ``params`` of a form holds; None for a request without a form, or with one of files only.
        files: field, name on the client's machine, and content of each file in a form.
        json: what the body holds if there is no form; None for no body.
    """

    method: str
    path: str
    query: tuple[tuple[str, str | bytes], ...] = ()
    params: object = None
    files: tuple[tuple[str, str, bytes], ...] = ()
    json: object = None
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> tuple[bytes, str]:
        """The body, and its Content-Type."""
        if self.params is None and not self.files:
            held = self.json
            return (b"" if held is None else held if isinstance(held, bytes) else encoded(held)), "application/json"
        parts = []
        if self.params is not None:
            text = self.params if isinstance(self.params, bytes) else encoded(self.params)
            parts.append(b'name="params"\r\n\r\n' + text)
        for name, file, content in self.files:
            head = f'name="{name}"; filename="{file}"\r\nContent-Type: application/octet-stream\r\n\r\n'
            parts.append(head.encode("utf-8", "surrogatepass") + content)
        start = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
        body = b"".join(start + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n\r\n".encode()
        return body, f"multipart/form-data; boundary={BOUNDARY}"

    def bytes(self, port: int, body: bytes | None = None, path: str | None = None) -> bytes:
        """What is sent.

        Args:
            body, path: in place of its own; a path that is already quoted.
        """
        own, kind = self.body()
        body = own if body is None else body
        path = quote(self.path, safe="/", errors="surrogatepass") if path is None else path
        query = "&".join(f"{key}={quoted(value)}" for key, value in self.query)
        headers = {"Host": f"127.0.0.1:{port}", "Connection": "close"}
        if body or self.method in ("POST", "PUT"):
            headers |= {"Content-Type": kind, "Content-Length": str(len(body))}
        headers |= dict(self.headers)
        lines = [f"{self.method} {path}{'?' * bool(query)}{query} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def quoted(value: str | bytes) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return quote_from_bytes(value.encode("utf-8", "surrogatepass"))


def label_map(value: int) -> bytes:
    values = np.zeros(SHAPE, np.uint8)
    values[2:6, 3:7, 4:8] = value
    return gzip.compress(nib.Nifti1Image(values, np.eye(4)).to_bytes())


def sound_requests(first: bytes) -> list[Request]:
    """Requests of all kinds that are as they should be, about two cases; `first` is the file of the first."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory() as folder:
        nrrds = {}
        for name, dtype in (("image", np.float32), ("label", np.uint8)):
            image = sitk.GetImageFromArray((np.arange(np.prod(SHAPE)).reshape(SHAPE[::-1]) % 3).astype(dtype))
            image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
            for end in (".nrrd", ".mha"):
                sitk.WriteImage(image, f"{folder}/{name}{end}", True)
                nrrds[name + end] = Path(f"{folder}/{name}{end}").read_bytes()
    named = (("image", "first"),)
    clicks = {
        "left": [[1, 2, 3]],
        "right lung": [[4, 5, 6], [0, 0, 11]],
        "background": [],
        "label": "left",
        "tta": False,
    }
    sent = clicks | {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz"}
    segments = [{"name": "left", "idx": 1}, {"name": "right lung", "idx": 2}]
    scribbles = {
        "label_info": [{"name": name, "id": name} for name in ("left", "right lung", "foreground_scribbles")],
        "selected_label_name": "left",
        "roi": [0, 7, 0, 9, 0, 11],
    }
    submit = {"label_info": segments, "client_id": "user-xyz"}
    added = {".nii.gz": first, ".nii": gzip.decompress(first), ".nrrd": nrrds["image.nrrd"], ".mha": nrrds["image.mha"]}
    labels = {".nii.gz": label_map(1), ".nii": gzip.decompress(label_map(2)), ".nrrd": nrrds["label.nrrd"]}
    labels |= {".seg.nrrd": nrrds["label.nrrd"], ".mha": nrrds["label.mha"]}
    put_label = [
        Request("PUT", "/datastore/label", (*named, ("tag", "final")), submit, (("label", f"x{end}", content),))
        for end, content in labels.items()
    ]
    put_image = [
        Request("PUT", path, query, {}, ((name, f"C:\\x{end}", content),))
        for path, query, name in (
            ("/datastore/", (("image", MARK),), "file"),
            ("/session/", (("expiry", "5"),), "files"),
        )
        for end, content in (*added.items(), (".dcm", b"DICM"))
    ]
    infer = [
        Request("POST", "/infer/deepedit", named, sent),
        Request("POST", "/infer/deepedit", (("image", "second"),), sent | {"start_from": "submitted label"}),
        Request("POST", "/infer/segmentation", (*named, ("output", "json")), {"result_extension": ".nii.gz"}),
        Request("POST", "/infer/segmentation", (*named, ("output", "image")), {"result_compress": False}),
        Request("POST", "/infer/scribbles", named, scribbles, (("label", "x.nii.gz", labels[".nii.gz"]),)),
        *(Request("POST", "/infer/deepedit", (), sent, (("file", f"x{end}", each),)) for end, each in added.items()),
    ]
    facts = {"params": {"label_names": {"left": 1}}}
    others = [
        Request("GET", "/info/"),
        Request("GET", "/auth/"),
        Request("GET", "/auth/token/valid"),
        Request("POST", "/auth/token", json=b"username=a&password=b&grant_type=password"),
        Request("GET", "/datastore/", (("output", "all"),)),
        Request("GET", "/datastore/image", named),
        Request("HEAD", "/datastore/image", named),
        Request("GET", "/datastore/label", (("label", "second"), ("tag", "final"))),
        Request("DELETE", "/datastore/label", (("id", "first"), ("tag", "final"))),
        Request("GET", "/datastore/image/info", named),
        Request("PUT", "/datastore/image/info", named, json=facts),
        Request("GET", "/datastore/label/info", (("label", "second"), ("tag", "final"))),
        Request("PUT", "/datastore/label/info", (("label", "second"), ("tag", "final")), json=facts),
        Request("PUT", "/datastore/updatelabelinfo", (("label", "second"),), json=facts),
        Request("GET", "/session/none", (("image", "true"),)),
        Request("DELETE", "/session/none"),
        *(Request("POST", f"/activelearning/{name}", json={"client_id": "me"}) for name in ("first", "random")),
        Request("GET", "/train/", (("check_if_running", "true"),)),
        Request("POST", "/train/deepedit", json={"max_minutes": 1, "client_id": "me"}),
        Request("POST", "/train/", json={"deepedit": {"max_minutes": 1}}),
        Request("DELETE", "/train/"),
        Request("GET", "/openapi.json"),
    ]
    return [*put_label * 2, *put_image, *infer * 2, *page_requests(labels) * 2, *others]


def page_requests(labels: Mapping[str, bytes]) -> list[Request]:
    """What a page asks for; `labels` are label maps by their endings."""
    named = (("image", "first"),)
    steps = [{"clicks": [["left", [1, 2, 3]], ["right lung", [4, 5, 6]]]}, {"lock": "left"}, {"unlock": "left"}]
    asked = {
        "image": "first",
        "start": {"kind": "automatic"},
        "tta": False,
        "steps": steps,
        "known": "a",
        "request": "b",
    }
    return [
        Request("GET", "/"),
        Request("GET", "/", (("key", "abc"),)),
        Request("GET", "/page/main.js"),
        Request("GET", "/api/"),
        Request("GET", "/api/cases"),
        Request("GET", "/api/image", (*named, ("channel", "0"), ("part", "facts"), ("model", "deepedit"))),
        Request("GET", "/api/image", (*named, ("part", "voxels"))),
        Request("GET", "/api/progress", (("request", "b"),)),
        *(Request("POST", f"/api/{name}", json=asked) for name in ("segment", "uncertainty", "session", "submit")),
        *(Request("POST", "/api/segment", json=asked | {"start": {"kind": kind}}) for kind in ("empty", "sent")),
        Request("POST", "/api/save", json=asked | {"suffix": ".seg.nrrd"}),
        *(Request("PUT", "/api/start", named, files=(("file", f"x{end}", each),)) for end, each in labels.items()),
        Request("PUT", "/api/session", named, json=b"PK\x03\x04 no session"),
        Request("POST", "/login", json={"token": "abc"}),
        Request("POST", "/logout"),
    ]


def hostile_names(outside: Path) -> list[str | bytes]:
    """What clients may call images, labels, tags and files; `outside` is a folder that is no business of theirs."""
    climbs = ["../" * depth for depth in (1, 2, 3, 4, 9)]
    return [
        *(f"{climb}{MARK}" for climb in climbs),
        *(f"{climb}secret" for climb in climbs),
        *(f"{climb}outside/secret.nii.gz" for climb in climbs),
        *(f"labels/final/{climb}{MARK}.nii.gz" for climb in climbs),
        *(f"..\\..\\{MARK}", f"{outside}/{MARK}", f"file://{outside}/secret.txt", str(outside / "secret.nii.gz")),
        *("..", ".", "", " ", "/", "\\", "~", "\0", f"{MARK}\0.nii.gz", "\n", "a\r\nSet-Cookie: x=1"),
        *("é" * 200, "a" * 5000, "2: CT chest/x", '"; filename="x'),
        *("first", "second", "third", "first.nii.gz", "SECOND", "dataset.txt", "labels", "labels/final/second.nii.gz"),
        *(".deepedit/facts.json", f".{MARK}", "._first", "CON", "$(id)", "%2e%2e%2f"),
        *("\ud800", "\U0001f600", "final", "original", "replaced", "-1", "1e999", "nan", "true", "image", "all"),
        *(b"%", b"%ff%fe", b"%00", b"..%2f..%2fsecret.txt", b"..%252f", b"first&image=second", b"%c0%ae%c0%ae/"),
    ]


@dataclass(frozen=True)
class Sent:
    """Bytes to send, whether the server may wait for more, and what status alone is right."""

    content: bytes
    whole: bool = True
    only: int | None = None


def mutated(rng: random.Random, request: Request, names: Sequence[str | bytes], port: int) -> Sent:
    """A request with something in it that nobody expects."""
    match rng.randrange(12):
        case 0 | 1 if request.query:  # names in the query
            query = tuple(
                (key, rng.choice(names)) if rng.random() < 0.7 else (key, each) for key, each in request.query
            )
            return Sent(replace(request, query=query).bytes(port))
        case 2 | 3 if request.params is not None or isinstance(request.json, dict):
            key = "json" if request.params is None else "params"
            return Sent(replace(request, **{key: damaged_json(getattr(request, key), rng)}).bytes(port))
        case 4 | 5 if request.files:  # the content of a file
            name, file, content = request.files[0]
            if rng.random() < 0.3:
                content = gzip.compress(damaged(gzip.decompress(content), rng, 352)) if file.endswith("gz") else content
            else:
                content = damaged(content, rng, 400)
            return Sent(replace(request, files=((name, file, content),)).bytes(port))
        case 6 if request.files:  # another format, or no format, and names of a client
            name, file, content = request.files[0]
            end = rng.choice(
                (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".dcm", ".exe", ".nhdr", ".hdr", "", ".NII")
            )
            stem = rng.choice([each for each in names if isinstance(each, str)])
            return Sent(replace(request, files=((name, stem + end, content),)).bytes(port))
        case 7 if request.files:  # a header that says that the voxels are elsewhere
            name, _, _ = request.files[0]
            where = rng.choice(
                ("../secret.txt", "../../outside/secret.txt", "/etc/passwd", "LIST", "secret%d.txt 1 2 1")
            )
            head = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 10 12\nencoding: raw\n"
            key = rng.choice(("data file", "datafile", "DATA FILE", "data file "))
            content = f"{head}{key}: {where}\n\n".encode()
            files = ((name, "x.nrrd", content),)
            return Sent(replace(request, files=files).bytes(port), only=400)
        case 8:  # the path
            return Sent(request.bytes(port, path=hostile_path(rng, request, names)))
        case 9:  # from elsewhere
            return Sent(replace(request, headers=(rng.choice(ELSEWHERE),)).bytes(port), only=403)
        case 10:  # headers, among them such as announce more than comes
            header, value = rng.choice(HEADERS), rng.choice((str(hostile_value(rng)), *HEADER_VALUES))
            value = value.replace("\r", " ").replace("\n", " ")[:10_000]
            return Sent(replace(request, headers=((header, value),)).bytes(port), whole=False)
        case 11:  # any bytes of the whole
            return Sent(damaged(request.bytes(port), rng, 600), whole=False)
    body, _ = request.body()  # the bytes of the body, announced as they are
    return Sent(request.bytes(port, body=damaged(body, rng, 300)))


def hostile_path(rng: random.Random, request: Request, names: Sequence[str | bytes]) -> str:
    pieces = request.path.split("/")
    match rng.randrange(4):
        case 0:
            pieces[rng.randrange(1, len(pieces))] = quoted(rng.choice(names)).replace(" ", "%20")
        case 1:
            pieces.insert(rng.randrange(1, len(pieces) + 1), quoted(rng.choice(names)))
        case 2:
            pieces = ["", *(rng.choice(pieces) for _ in range(rng.randrange(1, 5)))]
        case 3:
            return f"http://{rng.choice(('evil.example', '127.0.0.1'))}" + request.path
    return re.sub(r"[\x00-\x20\x7f-\uffff]", "_", "/".join(pieces))
