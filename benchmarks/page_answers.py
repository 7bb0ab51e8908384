"""What `deepedit-serve` takes to answer a page, besides the time of the session itself.

    python -m benchmarks.page_answers [--clicks 15] [--quick] [--large]

The server is a process of its own, and each click is sent as the page sends it: with all steps so far, and the state
that the page shows. The clicks correct a label map, so that nobody has to wait for a pass over the whole volume.
``request`` is from the first byte sent to the last one received, ``session`` what the server's session took of that,
``around`` the rest, of which ``post`` is for finding the difference. ``whole`` is what an answer takes to a page that
shows nothing yet, when there is nothing to work out; ``facts`` and ``voxels`` are for opening the image.
"""

import http.client
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.click_latency import LARGE, SIZES, small_model
from benchmarks.options import add_shared, parser
from benchmarks.server_latency import blobs
from deepedit.io.nifti import write_label, write_volume
from deepedit.network.checkpoint import save_model
from deepedit.volume import Volume
from tests.server.page_client import Answer, opened
from tests.soak.server import Server

BUDGETS = {(35, 50, 35): 50, (256, 256, 128): 120, (512, 512, 200): 250}
"""Milliseconds from a click to the picture, over the session's own time, of which the browser needs a part."""
WARM_UPS = 2
COLUMNS = ("request", "session", "around", "post", "whole", "facts", "voxels", "budget")


def measure(shape: tuple[int, int, int], patch: tuple[int, int, int], clicks: int, folder: Path) -> str:
    """A line of the table."""
    studies, final = folder / "studies", folder / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    save_model(folder / "model.pt", small_model(patch))
    image = np.random.default_rng(0).normal(0, 300, shape).astype(np.int16)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # as most files of CT are stored
    write_volume(studies / "case.nii", image, Volume(image, affine), np.int16)
    write_label(final / "case.nii", blobs(shape), Volume(image, affine))
    arguments = ["--model", folder / "model.pt", "--studies", studies, "--no-train"]
    server = Server(arguments, folder / "server", torch.get_num_threads())
    try:
        return compare(server.port, shape, clicks)
    finally:
        server.stop()


def compare(port: int, shape: tuple[int, int, int], clicks: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(method: str, path: str, body: str | None = None) -> tuple[Answer, float]:
        began = time.perf_counter()
        connection.request(method, path, body)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        return answer, 1000 * (time.perf_counter() - began)

    def segment(known: str | None) -> tuple[dict, float]:
        asked = {"image": "case", "start": {"kind": "submitted label"}, "steps": steps, "known": known}
        answer, took = ask("POST", "/api/segment", json.dumps(asked))
        return opened(answer)[0], took

    _, facts = ask("GET", "/api/image?image=case")
    voxels = statistics.median(ask("GET", "/api/image?image=case&part=voxels")[1] for _ in range(3))
    rng, steps, known, rows = np.random.default_rng(1), [], None, []
    for number in range(clicks + WARM_UPS):
        steps.append({"clicks": [[("one", "two")[number % 2], rng.integers(0, shape).tolist()]]})
        header, took = segment(known)
        known = header["state"]
        session = 1000 * header["seconds"]["infer"]
        rows.append((took, session, took - session, 1000 * header["seconds"]["post"]))
    whole = statistics.median(segment(None)[1] for _ in range(3))
    request, session, around, post = map(statistics.median, zip(*rows[WARM_UPS:], strict=True))
    figures = (request, session, around, post, whole, facts, voxels, BUDGETS.get(shape, math.nan))
    return f"{' x '.join(map(str, shape)):<15} " + " ".join(f"{each:10.1f}" for each in figures)


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--clicks")
    options.add_argument("--quick", action="store_true", help="the smallest volume only")
    options.add_argument("--large", action="store_true", help="also 512 x 512 x 200 voxels; needs 6 GiB")
    arguments = options.parse_args()
    print(f"{torch.get_num_threads()} threads, medians of {arguments.clicks} clicks after {WARM_UPS} warm-ups, ms")
    print(f"{'voxels':<15}" + "".join(f" {each:>10}" for each in COLUMNS))
    sizes = SIZES[:1] if arguments.quick else (SIZES[0], SIZES[-1], *([LARGE] if arguments.large else []))
    for shape, patch in sizes:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(shape, patch, arguments.clicks, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
