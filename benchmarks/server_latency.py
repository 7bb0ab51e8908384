"""How much longer a click takes through `deepedit-serve` than in a session of one's own.

    python -m benchmarks.server_latency [--clicks 15] [--quick]

The server is a process of its own, and each click is sent as 3D Slicer sends it: whether to log in is asked first, each
request comes on a connection of its own, and bears all clicks so far. Its time ends when the answer is received. The
clicks correct a label map, so that nobody has to wait for a pass over the whole volume.

Beside it a session in this process gets the same clicks, in turns, so that both find the machine alike. ``around`` is
what the request took besides the time of the server's session. ``again`` is what the same request takes once more, when
there is nothing to work out, and ``busy`` for how long both processes work for that, which hardly depends on what else
the machine does.
"""

import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.click_latency import SIZES, small_model
from benchmarks.options import add_shared, parser
from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import write_label, write_volume
from deepedit.network.checkpoint import Model, load_model, save_model
from deepedit.volume import Volume
from tests.soak.server import Client, Server, read_answer

BUDGET_MS, BUDGET_MS_A_MILLION = 15, 5
WARM_UPS = 2
ASKED_FOR = {"tta": False, "result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz"}
COLUMNS = ("request", "session", "difference", "ratio", "around", "again", "busy", "budget")


def measure(shape: tuple[int, int, int], patch: tuple[int, int, int], clicks: int, folder: Path) -> str:
    """A line of the table."""
    (folder / "studies").mkdir()
    save_model(folder / "model.pt", small_model(patch))
    model = load_model(folder / "model.pt")
    rng = np.random.default_rng(0)
    image = rng.random(shape, dtype=np.float32)
    write_volume(folder / "studies" / "case.nii", image, Volume(image))
    (folder / "studies" / "labels" / "final").mkdir(parents=True)
    label = folder / "studies" / "labels" / "final" / "case.nii"
    write_label(label, blobs(shape), Volume(image))
    server = Server(
        ["--model", folder / "model.pt", "--studies", folder / "studies", "--no-train"],
        folder / "server",
        torch.get_num_threads(),
    )
    try:
        return compare(server, model, folder / "studies" / "case.nii", label, clicks)
    finally:
        server.stop()


def blobs(shape: tuple[int, int, int]) -> np.ndarray:
    """A label map of smooth blobs, as organs are: a tenth of the voxels each."""
    coarse = [-(-side // 8) for side in shape]
    field = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal(coarse), 1.5)
    field = ndimage.zoom(field, 8, order=1)[tuple(map(slice, shape))]
    low, high = np.quantile(field, (0.1, 0.9))
    return np.where(field < low, 1, np.where(field > high, 2, 0)).astype(np.uint8)


def compare(server: Server, model: Model, image: Path, label: Path, clicks: int) -> str:
    rng, client, session = np.random.default_rng(1), Client(server.port), InteractiveSession(model)
    session.set_image(image)
    session.set_segmentation(label)
    shape = session.predict().shape
    names = model.plan.labels.names
    sent = {name: [] for name in names}
    rows = []
    for number in range(clicks + WARM_UPS):
        name, voxel = names[number % 2], rng.integers(0, shape).tolist()
        sent[name].append(voxel)
        params = {**sent, "background": [], "label": name, "start_from": "submitted label", **ASKED_FOR}
        with Stopwatch(server) as asked:
            response = client.send("POST", "/infer/deepedit?image=case", params)
        with Stopwatch(server) as alone:
            session.add_click(voxel, name)
            expected = session.predict()
        assert response.status == 200, response.body
        told, ranks = read_answer(response)
        assert np.array_equal(ranks, expected), "the server's answer differs from the session's"
        around = asked.seconds - told["latencies"]["infer"]
        with Stopwatch(server) as again:
            client.send("POST", "/infer/deepedit?image=case", params)
        ratio = asked.seconds / alone.seconds
        rows.append((asked.seconds, alone.seconds, ratio, around, again.seconds, again.busy))
    request, own, ratio, around, again, busy = map(statistics.median, zip(*rows[WARM_UPS:], strict=True))
    return (
        f"{' x '.join(map(str, shape)):<15} {1000 * request:10.1f} {1000 * own:10.1f} {1000 * (request - own):10.1f} "
        f"{ratio:10.3f} {1000 * around:10.1f} {1000 * again:10.1f} {1000 * busy:10.1f} "
        f"{BUDGET_MS + BUDGET_MS_A_MILLION * math.prod(shape) / 1e6:10.1f}"
    )


class Stopwatch:
    """Seconds that a block took, and for which this process and the server's worked meanwhile."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> "Stopwatch":
        self.busy, self.seconds = -self._busy(), -time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()
        self.busy += self._busy()

    def _busy(self) -> float:
        return time.process_time() + self._server.busy


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--clicks")
    options.add_argument("--quick", action="store_true", help="the smallest volume only")
    arguments = options.parse_args()
    print(f"{torch.get_num_threads()} threads, medians of {arguments.clicks} clicks after {WARM_UPS} warm-ups, ms")
    print(f"{'voxels':<15}" + "".join(f" {each:>10}" for each in COLUMNS))
    for shape, patch in SIZES[:1] if arguments.quick else (SIZES[0], SIZES[-1]):
        with tempfile.TemporaryDirectory() as folder:
            print(measure(shape, patch, arguments.clicks, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
