"""Send a server requests that nobody expects: each gets an answer that is no failure, and nothing is left behind.

    python -m tests.soak.attack --requests 10000

Requests that are as they should be are damaged in their paths, names, headers, parameters, files, or bytes. Findings
are an answer of the status 500 or none, a message that is no line, what was answered to another host's name or to a web
page from elsewhere, a file that was written or changed outside of the studies and the server's own temporary folder,
what a file outside holds in an answer, and memory, open files or temporary files that grow. It is printed with the
number of its request, and `--only NUMBER` repeats that. The exit status is 1 if there were any.
"""

import argparse
import gzip
import hashlib
import json
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from deepedit.network.checkpoint import save_model
from tests.inference.networks import random_model
from tests.server.live import LABELS
from tests.soak.hostile import MARK, SHAPE, Sent, hostile_names, label_map, mutated, sound_requests
from tests.soak.server import Client, Server, read_answer

CANARY = b"what no client may ever see"
START = re.compile(r"image-[0-9a-f]{16}\.nii")
"""Name of a label map that a page begins with, which is kept for an hour; the images that are kept are given up."""
LONGEST = 120
"""Seconds to wait for an answer."""
MORE_MEMORY = 96 * 2**20
"""Bytes by which the server may grow from the first tenth of the requests on; its sessions are within them."""


@dataclass
class Target:
    """A server to be attacked, and the folder around it.

    Attributes:
        root: everything that an attack could reach by a wrong name lies in here.
        findings: what was not as it should be.
        outcomes: how often each status came.
        sessions: keys of images that the server keeps for a while.
    """

    root: Path
    port: int = 0
    findings: list[str] = field(default_factory=list)
    outcomes: Counter = field(default_factory=Counter)
    sessions: set[str] = field(default_factory=set)

    @property
    def studies(self) -> Path:
        return self.root / "a" / "b" / "studies"

    @property
    def scratch(self) -> Path:
        return self.root / "a" / "b" / "server"

    def strangers(self) -> dict[Path, str]:
        """The files that no request may change, and the digests of their contents."""
        free = (self.scratch / "tmp", self.studies / "labels", self.studies / ".deepedit")
        files = {}
        for path in self.root.rglob("*"):
            added = path.parent == self.studies and path.name not in self.own
            if path.is_file() and not added and not any(path.is_relative_to(each) for each in free):
                files[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        return files

    @property
    def own(self) -> tuple[str, ...]:
        return ("first.nii.gz", "second.nii.gz", "third.nii.gz", "dataset.txt")


def make_target(root: Path) -> Target:
    """Three cases, one of which has a label map, a model, and files that are no client's business."""
    target = Target(root)
    target.studies.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in target.own[:3]:
        nib.save(nib.Nifti1Image(rng.uniform(0, 2, SHAPE).astype(np.float32), np.eye(4)), target.studies / name)
    (target.studies / "dataset.txt").write_bytes(CANARY)
    (target.studies / "labels" / "final").mkdir(parents=True)
    (target.studies / "labels" / "final" / "second.nii.gz").write_bytes(label_map(LABELS.values[0]))
    for folder in (root, root / "a", root / "a" / "b", root / "outside"):
        folder.mkdir(exist_ok=True)
        (folder / "secret.txt").write_bytes(CANARY * 40)
        (folder / "secret.nii.gz").write_bytes(gzip.compress(CANARY * 40))
    save_model(root / "model.pt", random_model(labels=LABELS, patch=(12, 12, 12)))
    return target


def attack(target: Target, numbers: Sequence[int], seed: int, clients: int = 2) -> None:
    """Send the requests of these numbers; what is found stands in `target.findings`."""
    sound = sound_requests((target.studies / "first.nii.gz").read_bytes())
    names, before = hostile_names(target.root / "outside"), target.strangers()

    def one(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        try:
            send(target, mutated(rng, rng.choice(sound), names, target.port), f"request {number}")
        except Exception as error:
            target.findings.append(f"request {number}: {type(error).__name__}: {error}")

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, numbers))
    changed = {path for path, digest in target.strangers().items() ^ before.items()}
    target.findings += [f"{path} was written or changed" for path in sorted(changed)]
    for folder in (Path("/"), Path.cwd(), Path(tempfile.gettempdir()), Path.home()):
        target.findings += [f"{path} was written" for path in folder.glob(f"*{MARK}*")]


def send(target: Target, sent: Sent, what: str) -> None:
    """Send it, and note what is not as it should be with the answer."""
    answer = exchange(target.port, sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.1 (\d{3})", head)
    if found is None:
        if sent.whole or answer:
            target.findings.append(f"{what}: is answered by {answer[:100]!r}")
        target.outcomes["none"] += 1
        return
    status = int(found[1])
    target.outcomes[status] += 1
    if status >= 500 and status != 503:
        target.findings.append(f"{what}: status {status}, {body[:200]!r}; sent {sent.content[:300]!r}")
    if sent.only not in (None, status):
        target.findings.append(f"{what}: status {status} in place of {sent.only}; sent {sent.content[:300]!r}")
    if CANARY in body or b"root:x:" in body:
        target.findings.append(f"{what}: shows a file; sent {sent.content[:300]!r}")
    if status >= 400 and body and b"Invalid HTTP request received." not in body:
        detail = json.loads(body).get("detail")
        if not (isinstance(detail, str) and detail.isprintable() and 0 < len(detail) < 3000):
            target.findings.append(f"{what}: a message that is no line: {body[:300]!r}")
    if b'"session_id":' in body and (key := re.search(rb'"session_id": ?"([\w-]+)"', body)):
        target.sessions.add(key[1].decode())


def exchange(port: int, sent: Sent) -> bytes:
    """What is answered until the server closes the connection."""
    parts = []
    with socket.create_connection(("127.0.0.1", port), timeout=LONGEST) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
            connection.sendall(sent.content)
        if not sent.whole:
            connection.settimeout(0.5)
        while True:
            try:
                part = connection.recv(2**20)
            except TimeoutError:
                if connection.gettimeout() == LONGEST:
                    raise
                connection.settimeout(LONGEST)
                connection.shutdown(socket.SHUT_WR)  # no more will come of what it may wait for
                continue
            except ConnectionResetError:
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts)


def answered_as_ever(port: int) -> np.ndarray:
    """The answer to clicks on a case that no request changes."""
    params = {"left": [[1, 2, 3]], "right lung": [[7, 3, 2]], "label": "left", "result_extension": ".nrrd"}
    response = Client(port).send("POST", "/infer/deepedit?image=third", params)
    assert response.status == 200, response.body
    return read_answer(response)[1]


def forget_sessions(target: Target) -> None:
    """Let the server give up all images that it keeps for a while."""
    for key in target.sessions:
        Client(target.port).request("DELETE", f"/session/{key}")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--clients", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", type=int, help="this one request")
    given = options.parse_args()
    numbers = range(given.requests) if given.only is None else range(given.only, given.only + 1)
    with tempfile.TemporaryDirectory() as scratch:
        target = make_target(Path(scratch) / "root")
        arguments = ["--model", target.root / "model.pt", "--studies", target.studies, "--memory", "0.01"]
        server = Server([*arguments, "--device", "cpu"], target.scratch)
        try:
            target.port = server.port
            expected = answered_as_ever(server.port)
            tenth = len(numbers) // 10
            attack(target, numbers[:tenth], given.seed, given.clients)
            memory, handles = server.memory, server.handles
            clock = time.monotonic()
            attack(target, numbers[tenth:], given.seed, given.clients)
            rate = (len(numbers) - tenth) / (time.monotonic() - clock)
            if not np.array_equal(answered_as_ever(server.port), expected):
                target.findings.append("the server answers otherwise than before")
            forget_sessions(target)
            print(
                f"memory: {memory / 2**20:.0f} MiB after {tenth} requests, {server.memory / 2**20:.0f} MiB in the end; "
                f"open files: {handles}, {server.handles}"
            )
            if server.memory > memory + MORE_MEMORY or server.handles > handles + 20:
                target.findings.append("the server grows")
            if left := [
                path for path in server.temporary.rglob("*") if path.is_file() and not START.fullmatch(path.name)
            ]:
                target.findings.append(f"{len(left)} temporary files are left: {left[:5]}")
            failures = [line for line in server.lines if "error:" in line or "Traceback" in line]
            target.findings += [f"the server said: {line}" for line in failures]
        finally:
            server.stop()
    print(f"{len(numbers)} requests, {rate:.0f} a second, {dict(target.outcomes.most_common())}")
    print(*target.findings[:40], sep="\n", end="\n" * bool(target.findings))
    return int(bool(target.findings))


if __name__ == "__main__":
    sys.exit(main())
