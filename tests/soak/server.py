"""A ``deepedit-serve`` in a process of its own, and requests as 3D Slicer sends them, a connection for each."""

import gzip
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import numpy as np

BOUNDARY = "----------lImIt_of_THE_fIle_eW_$"
PATIENCE = 1200.0
"""Seconds to wait for an answer; others may be at work on the machine."""


class Server:
    """A server that listens on a port that was free.

    Its temporary files, and what it writes relative to its home or its working folder, lie within one folder.

    Args:
        arguments: of the command, without ``--port``.
        scratch: the folder.
        threads: of the network.

    Raises:
        AssertionError: if it does not come up.
    """

    def __init__(self, arguments: Sequence[str], scratch: Path, threads: int = 1) -> None:
        self.scratch, self.temporary, self.lines = scratch, scratch / "tmp", []
        for name in ("tmp", "home", "cwd"):
            (scratch / name).mkdir(parents=True, exist_ok=True)
        places = {"TMPDIR": str(self.temporary), "HOME": str(scratch / "home"), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "deepedit_cli.serve", "--port", "0", *map(str, arguments)],
            cwd=scratch / "cwd",
            env=os.environ | places,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.port = self._wait_for_port()
        threading.Thread(target=self._read, daemon=True).start()

    def _wait_for_port(self) -> int:
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            if found := re.search(r"serving at http://127\.0\.0\.1:(\d+)/", line):
                return int(found[1])
        raise AssertionError(f"the server did not start: {self.lines}")

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    @property
    def memory(self) -> int:
        """Bytes of memory that the process holds now."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    @property
    def busy(self) -> float:
        """Seconds for which its threads have worked; threads that have ended are left out."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in threads) / 1e9

    @property
    def handles(self) -> int:
        """Files and connections that it has open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it as its user would; returns its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        finally:
            self.kill()


class Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


class Client:
    """Asks a server as Slicer's extension does: before each request, on a connection of its own, whether to log in."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Response:
        """What the server answers to a request.

        Raises:
            OSError, http.client.HTTPException: if it does not answer.
        """
        self.request("GET", "/auth/")
        return self.request(method, path, body, headers)

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Response:
        """The same without asking first."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"Accept-Encoding": "identity", **headers})
            answer = connection.getresponse()
            return Response(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def send(
        self, method: str, path: str, params: Mapping | None = None, files: Mapping[str, tuple[str, bytes]] = {}
    ) -> Response:
        """What it answers to a form."""
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.ask(method, path, form(params, files), kind)


def form(params: Mapping | None, files: Mapping[str, tuple[str, bytes]]) -> bytes:
    """A form of parameters and files, which are given as name and content."""
    parts = [] if params is None else [b'name="params"\r\n\r\n' + json.dumps(params).encode()]
    for field, (name, content) in files.items():
        head = f'name="{field}"; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        parts.append(head.encode() + content)
    start = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
    return b"".join(start + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n\r\n".encode()


def read_answer(response: Response) -> tuple[dict, np.ndarray]:
    """The parameters and the label map ``[X, Y, Z]`` of an answer to ``/infer``."""
    boundary = re.fullmatch(r"multipart/form-data; boundary=(\w+)", response.headers["content-type"])[1]
    start, _, rest = response.body.partition(b"\r\n\r\n")
    params, _, rest = rest.partition(f"\r\n--{boundary}\r\n".encode())
    head, _, content = rest.partition(b"\r\n\r\n")
    assert b'name="params"' in start and b'filename="' in head, (start, head)  # noqa: PT018
    return json.loads(params), read_nrrd(content.removesuffix(f"\r\n--{boundary}--\r\n".encode()))


def read_nrrd(content: bytes) -> np.ndarray:
    """The voxels ``[X, Y, Z]`` of a NRRD file of bytes, as gzip or as they are."""
    head, _, data = content.partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    assert fields["type"] in ("unsigned char", "uint8"), fields
    data = gzip.decompress(data) if fields["encoding"] == "gzip" else data
    return np.frombuffer(data, np.uint8).reshape([int(side) for side in fields["sizes"].split()], order="F")


class Watched:
    """The most memory that a server held while a block ran, looked at every tenth of a second."""

    def __init__(self, server: Server) -> None:
        self._server, self._over, self.most = server, threading.Event(), 0

    def __enter__(self) -> "Watched":
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        with suppress(OSError):
            while not self._over.wait(0.1):
                self.most = max(self.most, self._server.memory)


def percentile(seconds: Sequence[float], share: float) -> float:
    """The time that a share of some times does not exceed."""
    return sorted(seconds)[min(int(share * len(seconds)), len(seconds) - 1)]
