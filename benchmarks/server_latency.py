"""How much longer a click takes through `deepedit-serve` than in a session of one's own.

    python -m benchmarks.server_latency [--clicks 15]

The server is a process of its own, and each click is sent as 3D Slicer sends it: whether to log in is asked first, each
request comes on a connection of its own, and bears all clicks so far. Its time ends when the answer is received.
Beside it a session in this process gets the same clicks, in turns, so that both find the machine alike.
"""

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.click_latency import SIZES, small_model
from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import write_volume
from deepedit.network.checkpoint import load_model, save_model
from deepedit.volume import Volume
from deepedit_cli.common import positive_int
from tests.soak.server import Client, Server, read_answer

BUDGET_MS, BUDGET_MS_A_MILLION = 15, 5
WARM_UPS = 2


def measure(shape: tuple[int, int, int], patch: tuple[int, int, int], clicks: int, folder: Path) -> str:
    """A line of the table."""
    (folder / "studies").mkdir()
    save_model(folder / "model.pt", small_model(patch))
    model = load_model(folder / "model.pt")
    rng = np.random.default_rng(0)
    image = rng.random(shape, dtype=np.float32)
    write_volume(folder / "studies" / "case.nii", image, Volume(image))
    server = Server(
        ["--model", folder / "model.pt", "--studies", folder / "studies", "--no-train"],
        folder / "server",
        torch.get_num_threads(),
    )
    try:
        return compare(Client(server.port), model, folder / "studies" / "case.nii", shape, clicks)
    finally:
        server.stop()


def compare(client: Client, model, image: Path, shape: tuple[int, int, int], clicks: int) -> str:
    rng = np.random.default_rng(1)
    session = InteractiveSession(model)
    session.set_image(image)
    session.predict()
    names = model.plan.labels.names
    sent = {name: [] for name in names}
    asked, own, parts = [], [], []
    for number in range(clicks + WARM_UPS):
        name, voxel = names[number % 2], rng.integers(0, shape).tolist()
        sent[name].append(voxel)
        params = {**sent, "background": [], "label": name, "result_extension": ".nrrd", "result_dtype": "uint8"}
        start = time.perf_counter()
        response = client.send("POST", "/infer/deepedit?image=case", params)
        asked.append(time.perf_counter() - start)
        assert response.status == 200, response.body
        start = time.perf_counter()
        session.add_click(voxel, name)
        expected = session.predict()
        own.append(time.perf_counter() - start)
        told, ranks = read_answer(response)
        assert np.array_equal(ranks, expected), "the server's answer differs from the session's"
        parts.append(told["latencies"])
    asked, own, parts = asked[WARM_UPS:], own[WARM_UPS:], parts[WARM_UPS:]
    request, alone = (1000 * statistics.median(seconds) for seconds in (asked, own))
    ratios = [a / b for a, b in zip(asked, own, strict=True)]
    around = [1000 * (a - each["infer"]) for a, each in zip(asked, parts, strict=True)]
    pre, post = (1000 * statistics.median(each[key] for each in parts) for key in ("pre", "post"))
    budget = BUDGET_MS + BUDGET_MS_A_MILLION * math.prod(shape) / 1e6
    difference, ratio = request - alone, statistics.median(ratios)
    middle, low, high = statistics.median(around), min(around), max(around)
    return (
        f"{' x '.join(map(str, shape)):<15} {request:8.1f} {alone:8.1f} {difference:11.1f} {ratio:6.3f} "
        f"{middle:8.1f} ({low:.1f}-{high:.1f})   {pre:4.1f} {post:4.1f}   {budget:6.1f}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clicks", type=positive_int, default=15)
    arguments = options.parse_args()
    print(f"{torch.get_num_threads()} threads, medians of {arguments.clicks} clicks after {WARM_UPS} warm-ups, ms")
    print("voxels           request  session  difference  ratio   around the server's session    pre post   budget")
    for shape, patch in (SIZES[0], SIZES[-1]):
        with tempfile.TemporaryDirectory() as folder:
            print(measure(shape, patch, arguments.clicks, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
