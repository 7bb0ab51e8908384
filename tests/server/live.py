"""A server that listens, and what it serves."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepedit.network.checkpoint import Model
from deepedit.plan import Labels
from tests.inference.networks import random_model
from tests.obedient import obedient_model

for package in ("fastapi", "uvicorn", "python_multipart", "SimpleITK"):
    pytest.importorskip(package, reason=f"{package} is not installed; the extra server brings it")

import uvicorn  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.routing import Mount  # noqa: E402

from deepedit.server.access import Access  # noqa: E402
from deepedit.server.app import create_app  # noqa: E402
from deepedit.server.service import Service  # noqa: E402

LABELS = Labels(("left", "right lung"), (3, 7))
"""File values that are no ranks, so that one cannot be taken for the other."""

SHAPE = (16, 14, 12)
ROTATION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
GRIDS = {
    "RAS": np.diag([1.0, 1.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "PIR": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "oblique": ROTATION * (1.1, 0.9, 1.2),
}
"""Axes of images as they are stored, in mm."""


@dataclass(frozen=True)
class Live:
    """A server that listens.

    Attributes:
        url: of it.
        service: what it serves.
        said: its lines for whoever runs it.
    """

    url: str
    service: Service
    said: list[str]


@contextmanager
def serving(
    models: Sequence[tuple[Path, Model]],
    studies: Path,
    access: Access | None = None,
    prefix: str = "",
    memory: int = 2**28,
    port: int = 0,
    **options: object,
) -> Iterator[Live]:
    """A server in a thread of this process.

    Args:
        models, studies, access, memory, options: as for `Service`.
        prefix: of its addresses, as a proxy before it may add one.
        port: 0 takes one that is free.
    """
    said: list[str] = []
    service = Service(models, studies, access or Access(), memory, say=said.append, device="cpu", **options)
    app = create_app(service)
    app = Starlette(routes=[Mount(prefix, app)]) if prefix else app
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        (listening,) = server.servers[0].sockets
        yield Live(f"http://127.0.0.1:{listening.getsockname()[1]}{prefix}", service, said)
    finally:
        server.should_exit = True
        thread.join()
        service.close()


def until(holds: Callable[[], object], seconds: float = 60) -> object:
    """Wait until something holds; others may be at work on the machine."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def model_with_weights() -> Model:
    """A real network with random weights, which sees several windows in images of `SHAPE`."""
    return random_model(labels=LABELS, patch=(12, 12, 12))


def model_that_obeys() -> Model:
    """A network that finds what the image shows, and gives what is near to a click the label of it."""
    model = obedient_model(radius=2)
    return replace(model, plan=replace(model.plan, labels=LABELS))


def named(model: Model, folder: Path) -> list[tuple[Path, Model]]:
    """A model with a file that stands for it."""
    path = folder / "model.pt"
    path.write_bytes(b"its name only")
    return [(path, model)]


def truth(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Class indices: a left and a right block."""
    classes = np.zeros(shape, np.uint8)
    classes[1:7, 3:11, 3:9] = 1
    classes[9:15, 3:11, 3:9] = 2
    return classes


def shown(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """What `model_that_obeys` finds: parts of the truth, and something that is none."""
    classes = np.zeros(shape, np.uint8)
    classes[3:7, 4:10, 4:8] = 1
    classes[9:12, 3:9, 3:9] = 2
    classes[2:5, 11:14, 9:12] = 2
    return classes


def write_image(path: Path, grid: str = "RAS", seed: int | None = None) -> Path:
    """An image of `shown`, with noise where a seed is given."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = GRIDS[grid], (-12.5, 30, 7)
    data = shown().astype(np.float32)
    if seed is not None:
        data += np.random.default_rng(seed).normal(0, 0.4, SHAPE).astype(np.float32)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path
