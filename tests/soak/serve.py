"""Work with a server as many users at once do, and kill it in the middle of submits.

    python -m tests.soak.serve --minutes 10 --clients 8 --kills 50

Clients segment, click, remove clicks, correct submitted labels, send images that are kept for seconds only, and submit.
Every answer must be, to the voxel, that of a session that gets the same clicks. Beside them ``/info/`` is polled, of
this server and of one that has nothing to do: what others do on the machine delays both. First a server that may keep
no session does the same for a while, which tells how much memory one takes besides its sessions.

Then a server is killed, time and again, while label maps are submitted. Whatever it acknowledged must be there, and
every label map whole.
"""

import argparse
import gzip
import hashlib
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch

from deepedit.inference.session import InteractiveSession
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import BACKGROUND, Labels
from deepedit.server.clicks import Orders, Placed
from tests.inference.networks import plan
from tests.soak.server import Client, Server, Watched, percentile, read_answer

MODELS = {"": Labels(("spleen", "left lung"), (2, 5)), "-other": Labels(("left lung", "tumor", "aorta"), (5, 7, 9))}
"""Labels by what the names of the served models end in; file values are no ranks, so that one is not taken for the
other."""
IMAGES = {
    "small": ((18, 20, 16), np.diag([1.0, 1.0, 1.0, 1.0])),
    "2: CT chest": ((40, 36, 30), np.diag([-1.0, -1.0, 1.0, 1.0])),
    "turned": ((30, 44, 28), np.array([[0, 0, 1.1, 3], [-1, 0, 0, 5], [0, -1.2, 0, 0], [0, 0, 0, 1.0]])),
    "large": ((56, 48, 40), np.diag([1.0, -1.0, 1.0, 1.0])),
}
CORRECTED = "2: CT chest"
"""The case that has a submitted label."""
PATCH = (32, 32, 32)
SECONDS_KEPT = 1
SLACK = 32 * 2**20
"""Bytes by which memory may be over its limit, as allocators return it in pieces."""


class Scene(NamedTuple):
    """What is clicked on: the end of a model's name, the name of an image, whether its submitted label is corrected."""

    model: str
    image: str
    corrects: bool = False
    tta: bool = False


@dataclass
class World:
    """Models and studies, and what has been seen of a server that serves them.

    Attributes:
        answers: what was answered, as digests, to the clicks of a scene in an order.
        failures: what was not as it should be.
        counts: of what was done.
        submitted: the last label map of a case that was acknowledged, in file values.
    """

    folder: Path
    models: dict[str, Model] = field(default_factory=dict)
    answers: dict[tuple[Scene, tuple[Placed, ...]], set[bytes]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    submitted: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def studies(self) -> Path:
        return self.folder / "studies"

    def image(self, name: str) -> Path:
        return self.studies / f"{name}.nii.gz"

    def file(self, model: str) -> Path:
        return self.folder / (f"{model[1:]}.pt" if model else "model.pt")

    def arguments(self, memory: float, studies: Path | None = None) -> list:
        """Of the server; `memory` in GiB, `studies` another folder than the world's."""
        files = [each for name in self.models for each in ("--model", self.file(name))]
        studies = studies or self.studies
        return [*files, "--studies", studies, "--memory", str(memory), "--no-train", "--device", "cpu"]


def make_world(folder: Path, clients: int) -> World:
    """Models, images, a case of its own for each client, and a label map that has been submitted."""
    world = World(folder)
    (world.studies / "labels" / "final").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, labels in MODELS.items():
        world.models[name] = tiny_model(labels)
        save_model(world.file(name), world.models[name])
    for name, (shape, affine) in IMAGES.items():
        nib.save(nib.Nifti1Image(rng.uniform(0, 2, shape).astype(np.float32), affine), world.image(name))
    for number in range(clients):
        content = nib.Nifti1Image(rng.uniform(0, 2, (20, 18, 16)).astype(np.float32), np.eye(4))
        nib.save(content, world.image(f"case of client {number}"))
    shape, affine = IMAGES[CORRECTED]
    values = np.array((0, *MODELS[""].values), np.uint8)[rng.integers(0, 3, shape)]
    nib.save(nib.Nifti1Image(values, affine), world.studies / "labels" / "final" / f"{CORRECTED}.nii.gz")
    return world


def tiny_model(labels: Labels) -> Model:
    """A real network with random weights that is soon done."""
    config = UNetConfig(filters=(4, 8), strides=(1, 2), kernels=(3, 3))
    classes = labels.num_classes
    return Model(build_network(input_channels(1, classes), classes, config, seed=5).eval(), plan(PATCH, labels=labels))


class User:
    """A client that works as a user does, until it is told to stop.

    Clicks of its own are on voxels that are no other client's, so that the order in which the server takes them follows
    from this client's requests alone. Clicks that several clients place are placed by all of them in one order.

    Args:
        number: of the client; the first coordinate of its clicks tells it.
        clients: how many there are.
    """

    def __init__(self, world: World, port: int, number: int, clients: int, seed: int) -> None:
        self.world, self.client, self.number, self.clients = world, Client(port), number, clients
        self.random = random.Random(f"{seed} {number}")
        self.orders = Orders()
        self.sent: dict[str, str] = {}  # keys of the images that the server keeps for a while

    def work(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self.scene(stop)
        except Exception as error:
            self.world.failures.append(f"client {self.number}: {type(error).__name__}: {error}")

    def scene(self, stop: threading.Event) -> None:
        """Some requests about an image."""
        rng = self.random
        own = rng.random() < 0.25
        image = f"case of client {self.number}" if own else rng.choice(list(IMAGES))
        model = "" if own else rng.choice(list(MODELS))
        corrects = image == CORRECTED and model == "" and rng.random() < 0.5
        uploaded = not own and not corrects and rng.random() < 0.3
        scene = Scene(model, image, corrects, image == "small" and rng.random() < 0.3)
        shared = not own and rng.random() < 0.3
        script = shared_script(scene, self.clients) if shared else None
        clicks: list[tuple[str, tuple[int, int, int]]] = []
        self.ask(scene, clicks, shared, uploaded)
        for step in range(rng.randint(2, 9)):
            if stop.is_set():
                return
            if clicks and rng.random() < 0.15:
                clicks.pop(-1 if shared else rng.randrange(len(clicks)))
            if rng.random() < 0.9:
                clicks.append(script[len(clicks)] if shared else self.click(scene))
            ranks = self.ask(scene, clicks, shared, uploaded)
            if own and step % 3 == 2:
                self.submit(image, ranks)

    def click(self, scene: Scene) -> tuple[str, tuple[int, int, int]]:
        shape = nib.load(self.world.image(scene.image)).shape
        return random_click(self.random, scene, shape, self.number, self.clients + 1)

    def ask(self, scene: Scene, clicks: list, shared: bool, uploaded: bool) -> np.ndarray:
        """A request, whose answer is remembered; returns the ranks."""
        labels = MODELS[scene.model]
        sent = {name: [list(voxel) for label, voxel in clicks if label == name] for name in labels.class_names}
        params = sent | {"tta": scene.tta, "result_extension": ".nrrd", "result_dtype": "uint8"}
        if clicks:
            params["label"] = clicks[-1][0]
        if scene.corrects:
            params["start_from"] = "submitted label"
        kind = "segmentation" if not clicks and not scene.corrects and self.random.random() < 0.5 else "deepedit"
        path = f"/infer/{kind}{scene.model}?image={scene.image}".replace(" ", "%20")
        while True:
            key = f"&session_id={self.upload(scene.image)}" if uploaded else ""
            response = self.client.send("POST", path + key, params)
            if not (uploaded and response.status == 404):  # else it expired between two requests
                break
            self.world.counts["expired within a request"] += 1
        assert response.status == 200, (path, response.status, response.body[:300])
        told, ranks = read_answer(response)
        assert list(told["label_names"]) == list(labels.names), told
        by_class = {labels.index(name): list(map(tuple, voxels)) for name, voxels in sent.items()}
        newest = labels.index(clicks[-1][0]) if clicks else None
        order = self.orders.order((scene, shared), by_class, newest)
        if shared:
            assert order == tuple((labels.index(name), voxel) for name, voxel in clicks)
        digest = digest_of(ranks)
        self.world.answers.setdefault((scene, order), set()).add(digest)
        self.world.counts["answers"] += 1
        return ranks

    def upload(self, image: str) -> str:
        """The key of an image that the server keeps, which is sent again where it does not any more."""
        key = self.sent.get(image)
        if key and self.client.ask("GET", f"/session/{key}").json():
            return key
        self.world.counts["uploads, expired" if key else "uploads"] += 1
        content = self.world.image(image).read_bytes()
        # The name and the very bytes differ from client to client; the image does not.
        content = gzip.compress(gzip.decompress(content), 1 + self.number % 9)
        name = f"C:\\Users\\{self.number}\\{image}.nii.gz"
        response = self.client.send("PUT", f"/session/?expiry={SECONDS_KEPT}", None, {"files": (name, content)})
        assert response.status == 200, response.body
        self.sent[image] = response.json()["session_id"]
        return self.sent[image]

    def submit(self, case: str, ranks: np.ndarray) -> None:
        labels = MODELS[""]
        order = list(range(len(labels.names)))
        self.random.shuffle(order)  # a viewer numbers the segments in an order of its own
        values = np.zeros(len(order) + 1, np.uint8)
        for value, index in enumerate(order, 1):
            values[index + 1] = value
        params = {"label_info": [{"name": labels.names[index], "idx": 7} for index in order]}
        path = f"/datastore/label?image={case}".replace(" ", "%20")
        content = nifti(values[ranks])
        response = self.client.send("PUT", path, params, {"label": (f"{case}.nii.gz", content)})
        assert response.status == 200, response.body
        self.world.submitted[case] = np.array((0, *labels.values))[ranks]
        self.world.counts["submits"] += 1


def shared_script(scene: Scene, clients: int) -> list[tuple[str, tuple[int, int, int]]]:
    """The clicks that all clients place in one order."""
    shape, _ = IMAGES[scene.image]
    rng = random.Random(f"{scene.model} {scene.image}")
    return [random_click(rng, scene, shape, clients, clients + 1) for _ in range(20)]


def random_click(rng: random.Random, scene: Scene, shape: Sequence[int], own: int, owners: int) -> tuple:
    """A label, and a voxel whose first coordinate tells whose it is."""
    first = rng.choice(range(own, shape[0], owners))
    label = rng.choice((*MODELS[scene.model].names, BACKGROUND))
    return label, (first, rng.randrange(shape[1]), rng.randrange(shape[2]))


def nifti(values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    image = nib.Nifti1Image(values.astype(np.uint8), np.eye(4) if affine is None else affine)
    return gzip.compress(image.to_bytes(), 1)


def digest_of(values: np.ndarray) -> bytes:
    return hashlib.blake2b(values.astype(np.uint8).tobytes(order="C"), digest_size=16).digest()


def load(world: World, port: int, clients: int, seconds: float, seed: int) -> None:
    """Let clients work for a while."""
    stop = threading.Event()
    users = [User(world, port, number, clients, seed) for number in range(clients)]
    threads = [threading.Thread(target=user.work, args=(stop,)) for user in users]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()


def check_answers(world: World) -> None:
    """Hold every answer, and the submitted labels, against sessions of one's own."""
    session, known = None, None
    for (scene, order), digests in sorted(world.answers.items(), key=lambda item: item[0]):
        if known is None or known[0] != scene or order[: len(known[1])] != known[1]:
            session = InteractiveSession(world.models[scene.model], tta=scene.tta)
            session.set_image(world.image(scene.image))
            if scene.corrects:
                session.set_segmentation(world.studies / "labels" / "final" / f"{scene.image}.nii.gz")
            session.predict()
            known = scene, ()
        for label, voxel in order[len(known[1]) :]:
            session.add_click(voxel, MODELS[scene.model].class_names[label])
        known = scene, order
        expected = MODELS[scene.model].to_classes(session.predict())
        if digests != {digest_of(expected)}:
            world.failures.append(f"{scene}, clicks {order}: the answer is not that of a session")
    for case, values in world.submitted.items():
        found = np.asarray(nib.load(world.studies / "labels" / "final" / f"{case}.nii.gz").dataobj)
        if not np.array_equal(found, values):
            world.failures.append(f"{case}: its label is not the one that was submitted last")


def poll(ports: Sequence[int], seconds: float) -> list[list[float]]:
    """How long each server takes to answer ``/info/``, asked in turns every twentieth of a second."""
    clients = [Client(port) for port in ports]
    found: list[list[float]] = [[] for _ in ports]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for client, times in zip(clients, found, strict=True):
            start = time.perf_counter()
            response = client.request("GET", "/info/")
            times.append(time.perf_counter() - start)
            assert response.status == 200, response
            assert json.loads(response.body)["models"]
        time.sleep(0.05)
    return found


def soak(folder: Path, clients: int, seconds: float, memory: float, seed: int) -> list[str]:
    """The load; prints what was seen, and returns what was not as it should be."""
    world = make_world(folder, clients)
    none = Server(world.arguments(1e-6), folder / "without sessions")
    try:
        with Watched(none) as watched:
            load(world, none.port, clients, seconds / 5, seed)
    finally:
        none.stop()
    if not any("so it is dropped" in line for line in none.lines):
        world.failures.append("no line tells that a session was dropped")
    answered = world.counts["answers"]
    print(f"without sessions: {answered} answers, at most {mebibytes(watched.most)}; {len(none.lines)} lines")
    own = watched.most
    # One server at a time works on a folder.
    idle_studies = shutil.copytree(world.studies, folder / "idle studies", ignore=shutil.ignore_patterns(".deepedit"))
    idle = Server(world.arguments(1e-6, idle_studies), folder / "idle")
    try:
        server = Server(world.arguments(memory), folder / "loaded")
        try:
            with Watched(server) as watched, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                polled = pool.submit(poll, (server.port, idle.port), seconds)
                load(world, server.port, clients, seconds, seed + 1)
                times = polled.result()
            for name, found in zip(("loaded", "idle"), times, strict=True):
                print(
                    f"/info/ {name}: {len(found)} times, 50th percentile {1000 * percentile(found, 0.5):.1f} ms, "
                    f"99th {1000 * percentile(found, 0.99):.1f} ms, longest {1000 * max(found):.1f} ms"
                )
            limit = memory * 2**30
            print(f"memory: at most {mebibytes(watched.most)}, {mebibytes(own)} + {mebibytes(limit)} for sessions")
            if watched.most > own + limit + SLACK:
                world.failures.append("it held more memory than it may")
            if unexpected := [line for line in server.lines if "error" in line.lower() or "Traceback" in line]:
                world.failures.append(f"it said {unexpected[:3]}")
        finally:
            status = server.stop()
        if status or any(server.temporary.iterdir()):
            world.failures.append(f"it ended with status {status} and left {list(server.temporary.iterdir())}")
    finally:
        idle.stop()
    check_answers(world)
    counts = ", ".join(f"{count} {what}" for what, count in sorted(world.counts.items()))
    print(f"{clients} clients, {seconds:.0f} s: {counts}; {len(world.answers)} states of sessions compared", flush=True)
    return world.failures


def mebibytes(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


# Kill

KILL_SHAPE = (12, 10, 8)
KILL_CASES = ("one", "two", "three")


def marked(number: int) -> np.ndarray:
    """A label map that tells a number, in ranks, and whose every voxel depends on it."""
    return np.random.default_rng(number).integers(0, 3, KILL_SHAPE).astype(np.uint8)


@dataclass
class Submits:
    """What was submitted to a case: the numbers that were acknowledged, and one that may or may not have arrived."""

    acknowledged: list[int] = field(default_factory=list)
    begun: int = 0
    found: set[int] = field(default_factory=set)
    looked_at: set[str] = field(default_factory=set)


def kill(folder: Path, kills: int, seed: int) -> list[str]:
    """Kill a server in the middle of submits; prints what was seen, and returns what was lost."""
    studies, rng = folder / "studies", random.Random(seed)
    studies.mkdir(parents=True)
    save_model(folder / "model.pt", tiny_model(MODELS[""]))
    for case in KILL_CASES:
        nib.save(nib.Nifti1Image(np.zeros(KILL_SHAPE, np.float32), np.eye(4)), studies / f"{case}.nii.gz")
    submits = {case: Submits() for case in KILL_CASES}
    failures, unfinished = [], 0
    arguments = ["--model", folder / "model.pt", "--studies", studies, "--no-train", "--device", "cpu"]
    for number in range(kills):
        server = Server(arguments, folder / f"server {number}")
        total = Client(server.port).request("GET", "/info/").json()["datastore"]["total"]
        if total != len(KILL_CASES):
            failures.append(f"after kill {number}: {total} cases")
        threads = [
            threading.Thread(target=submit_until_killed, args=(server.port, case, *each))
            for case, each in ((case, (submits[case], index)) for index, case in enumerate(KILL_CASES))
        ]
        for thread in threads:
            thread.start()
        before = sum(len(each.acknowledged) for each in submits.values())
        while sum(len(each.acknowledged) for each in submits.values()) == before:  # the first one loads libraries
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        server.kill()
        for thread in threads:
            thread.join()
        unfinished += sum(1 for path in studies.rglob("*") if path.is_file() and ".tmp" in path.name)
        for path in studies.rglob(".deepedit-*.tmp*"):
            path.unlink()
        for case in KILL_CASES:
            failures += [f"after kill {number}: {case}: {each}" for each in lost(studies, case, submits[case])]
    count = sum(len(each.acknowledged) for each in submits.values())
    print(f"{kills} kills, {unfinished} files found unfinished under names of their own; {count} submits acknowledged")
    return failures


def submit_until_killed(port: int, case: str, submits: Submits, index: int) -> None:
    params = {"label_info": [{"name": name} for name in MODELS[""].names]}
    while True:
        submits.begun += len(KILL_CASES)
        number = submits.begun + index
        content = nifti(marked(number))
        try:
            path = f"/datastore/label?image={case}"
            response = Client(port).send("PUT", path, params, {"label": ("label.nii.gz", content)})
        except (OSError, HTTPException):
            return
        assert response.status == 200, response.body
        submits.acknowledged.append(number)


def lost(studies: Path, case: str, submits: Submits) -> list[str]:
    """What of the acknowledged label maps is missing, and what is no label map that was submitted."""
    failures, index = [], KILL_CASES.index(case)
    known = {}
    for number in range(max(submits.begun - 3000, 3) + index, submits.begun + index + 1, len(KILL_CASES)):
        known[digest_of(np.array((0, *MODELS[""].values))[marked(number)])] = number
    final = studies / "labels" / "final" / f"{case}.nii.gz"
    kept = [path for path in (studies / "labels" / "replaced").glob(f"{case}.*") if path.name not in submits.looked_at]
    now = None
    for path in (final, *kept):
        try:
            found = known.get(digest_of(np.asarray(nib.load(path).dataobj))) if path.exists() else None
        except Exception as error:
            failures.append(f"{path.name} cannot be read: {error}")
            continue
        if path == final:
            now = found
        else:
            submits.looked_at.add(path.name)
        if found is None and (path != final or submits.acknowledged):
            failures.append(f"{path.name} is none of those that were submitted")
        submits.found.add(found)
    last = submits.acknowledged[-1] if submits.acknowledged else None
    if now not in (last, submits.begun + index):
        failures.append(f"label {now} is in place, {last} was acknowledged last")
    if missing := set(submits.acknowledged) - submits.found:
        failures.append(f"{len(missing)} are lost: {sorted(missing)[:5]}")
    return failures


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--memory", type=float, default=0.03, help="GiB for sessions")
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    torch.set_num_threads(1)
    failures = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "load").mkdir()
        if given.minutes:
            failures += soak(folder / "load", given.clients, 60 * given.minutes, given.memory, given.seed)
        if given.kills:
            failures += kill(folder / "kill", given.kills, given.seed)
    print(*failures[:20], sep="\n", end="\n" * bool(failures))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
