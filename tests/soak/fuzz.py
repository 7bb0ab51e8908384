"""Feed damaged files to the readers: each gives a result or one of the package's own errors, and nothing else.

    python -m tests.soak.fuzz --cases 100000 --reader nifti

The readers are nifti, itk, dicom, dataset, clicks, fcsv and checkpoint; folders, whose contents are mixed; and one-bad,
four cases of which one has a bad file and must cost nothing but itself. A case that ends in another exception, takes
longer than ten seconds, needs more than two GiB more than before, or runs code that a file brought along is a finding;
it is printed with its number, and `--only NUMBER` repeats it. The exit status is 1 if there were any.
"""

import argparse
import copy
import gzip
import io
import json
import os
import pickle
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from deepedit.errors import DeepEditError
from deepedit.io import read_geometry, read_label, read_volume, write_label
from deepedit.io.click_files import read_clicks
from deepedit.io.grids import misfit
from deepedit.io.msd import find_dataset
from deepedit.io.nifti import Geometry
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model, load_model, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from deepedit.volume import Volume
from tests.soak.folders import folders_case, one_bad_case
from tests.soak.mutations import damaged, damaged_json, damaged_value, hostile_value, places

LONGEST = 10
MORE_MEMORY = 2 * 2**30

Case = Callable[[random.Random], object]


class Hang(BaseException):
    """A case took too long; no reader may catch it."""


def nifti_case(folder: Path) -> Case:
    """Volumes of several types and dimensions, damaged before or after compression."""
    seeds = []
    for dtype, shape in (
        (np.uint8, (5, 4, 3)),
        (np.int16, (4, 5, 6)),
        (np.float32, (3, 3, 3, 2)),
        (np.float64, (6, 5)),
    ):
        data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        for kind in (nib.Nifti1Image, nib.Nifti2Image):
            image = kind(data, np.diag([1, 2, -3, 1]))
            image.header.set_slope_inter(*((2, 1) if dtype == np.int16 else (None, None)))
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"something"))
            seeds.append(image.to_bytes())

    def case(rng: random.Random) -> object:
        content, kind = rng.choice(seeds), rng.randrange(3)
        if kind != 1:
            content = damaged(content, rng, focus=352)
        if kind:
            content = gzip.compress(content, 1)
        if kind == 1:
            content = damaged(content, rng, focus=10)
        path = folder / rng.choice(("case.nii", "case.nii.gz"))
        path.write_bytes(content)
        volume = rng.choice((read_geometry, read_volume, read_label))(path)
        if isinstance(volume, Volume):
            # What was read must be of use: a result can be written on its grid, and lies there when it is read again.
            result = folder / "result.nii"
            write_label(result, np.ones(volume.shape, np.uint8), volume)
            assert misfit(read_geometry(result), Geometry(volume.shape, volume.affine, 1)) is None
        return volume

    return case


def itk_case(folder: Path) -> Case:
    """Files of the other formats, damaged in their headers or voxels."""
    import SimpleITK as sitk

    layers = np.zeros((3, 4, 5, 2), np.uint8)
    layers[0, ..., 0], layers[1, ..., 1] = 1, 2
    segments = sitk.GetImageFromArray(layers, isVector=True)
    for number in range(2):
        for key, value in (("ID", f"Segment_{number}"), ("LabelValue", number + 1), ("Layer", number)):
            segments.SetMetaData(f"Segment{number}_{key}", str(value))
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    image.SetSpacing((1, 2, 3))
    seeds = []
    for name, source in (("a.nrrd", image), ("a.mha", image), ("a.hdr", image), ("a.seg.nrrd", segments)):
        for compressed in (False, True):
            sitk.WriteImage(source, str(folder / name), compressed and name != "a.hdr")
            seeds.append((name, (folder / name).read_bytes()))

    def case(rng: random.Random) -> object:
        name, content = rng.choice(seeds)
        path = folder / name
        path.write_bytes(damaged(content, rng, focus=400))
        volume = rng.choice((read_geometry, read_volume, read_label))(path)
        if isinstance(volume, Volume):
            result = folder / rng.choice(("result.seg.nrrd", "result.mha"))
            write_label(result, np.ones(volume.shape, np.uint8), volume)
            assert misfit(read_geometry(result), Geometry(volume.shape, volume.affine, 1)) is None
        return volume

    return case


def dicom_case(folder: Path) -> Case:
    """A DICOM series of which a file is damaged, or a damaged DICOM SEG."""
    from tests.io.dicom_files import save_series

    voxels = np.random.default_rng(0).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)
    series = save_series(folder / "series", voxels)
    sound = {path: path.read_bytes() for path in series.iterdir()}
    image = read_volume(series)
    write_label(folder / "sound.dcm", np.ones(image.shape, np.uint8), image, {1: "one", 2: "two"})
    segmentation = (folder / "sound.dcm").read_bytes()

    def case(rng: random.Random) -> object:
        if rng.random() < 0.2:
            path = folder / "case.dcm"
            path.write_bytes(damaged(segmentation, rng, focus=2000))
            return read_label(path)
        for path, content in sound.items():
            path.write_bytes(content)
        path = rng.choice(list(sound))
        path.write_bytes(damaged(sound[path], rng, focus=1500))
        volume = rng.choice((read_geometry, read_volume))(series)
        # Of a slice that is left out as no DICOM file the others may remain, and lie where they did.
        assert np.allclose(volume.affine[:, :3], image.affine[:, :3], atol=0.5)
        return volume

    return case


def dataset_case(folder: Path) -> Case:
    """A whole dataset of two cases whose dataset.json is damaged."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
        for number in range(2):
            image = nib.Nifti1Image((np.arange(27) % 3).reshape(3, 3, 3).astype(np.uint8), np.eye(4))
            nib.save(image, folder / name / f"case_{number}.nii.gz")
    pairs = [{"image": f"./imagesTr/case_{n}.nii.gz", "label": f"./labelsTr/case_{n}.nii.gz"} for n in range(2)]
    descriptions = (
        {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "one", "2": "two"}, "training": pairs},
        {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "one": 1, "two": 2}, "file_ending": ".nii.gz"},
    )

    def case(rng: random.Random) -> object:
        (folder / "dataset.json").write_bytes(damaged_json(rng.choice(descriptions), rng))
        return find_dataset(folder)

    return case


def clicks_case(folder: Path) -> Case:
    """Clicks in all three formats."""
    point = {"id": "1", "label": "spleen-1", "position": [1.0, 2.0, 3.0], "positionStatus": "defined"}
    forms = (
        {"space": "voxel", "clicks": [{"label": "spleen", "position": [1, 2, 3]}, {"label": "background"}]},
        {"spleen": [[1, 2, 3], [4, 5, 6]], "background": [], "foreground": [[7, 8, 9]]},
        {"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [point, dict(point)]}]},
    )

    def case(rng: random.Random) -> object:
        path = folder / "clicks.json"
        path.write_bytes(damaged_json(rng.choice(forms), rng))
        return read_clicks(path, rng.choice((None, ["spleen", "liver"])))

    return case


def fcsv_case(folder: Path) -> Case:
    """Tables of points, damaged as bytes or with cells that nobody expects."""
    head = "# Markups fiducial file version = {}\n# CoordinateSystem = {}\n"
    columns = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    older = 'vtkMRMLMarkupsFiducialNode_{},1.5,-2e1,3,0,0,0,1,1,1,0,"spleen-1",,vtkMRMLScalarVolumeNode1\n'
    newer = "{},1.5,-20,3,0,0,0,1,1,1,0,liver-2,,,2,0\n"
    forms = (
        head.format("4.11", "0") + columns + older.format(0) + older.format(1),
        head.format("5.6", "LPS") + columns + newer.format(1) + newer.format(2),
        "label,r,a,s,defined,selected,visible,locked,description\nspleen-1,1,2,3,1,1,1,0,\nliver,4,5,6,1,1,1,0,\n",
        "label;i;j;k\nspleen;1,5;2;3\n",
    )

    def case(rng: random.Random) -> object:
        text = rng.choice(forms)
        if rng.random() < 0.5:
            cells = re.split("([,;\n=])", text)
            for _ in range(rng.choice((1, 1, 2, 4))):
                at = rng.randrange(len(cells))
                cells[at] = rng.choice(
                    (str(hostile_value(rng)), "\0", '"', "\r", "#", ",", "1e999", "-inf", "4" * 5000)
                )
            content = "".join(cells).encode("utf-8", "surrogatepass")
        else:
            content = damaged(text.encode(), rng)
        path = folder / rng.choice(("clicks.fcsv", "spleen.fcsv", "clicks.csv"))
        path.write_bytes(content)
        clicks = read_clicks(path, rng.choice((None, ["spleen", "liver"])))
        assert all(len(click.position) == 3 and click.label for click in clicks)
        return clicks

    return case


class Bomb:
    """Runs code when it is unpickled by a reader that lets it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def hostile_objects() -> list:
    """What a pickle may hold and JSON may not: nothing of it is a value or a tensor of a model."""
    laughs: list = ["ha"]
    for _ in range(20):  # a thousand bytes, and a text of megabytes and more for whoever prints it
        laughs = [laughs] * 10
    few = torch.ones(1)
    tensors = (few, few.expand(2, 4, 1, 1, 1), few.expand(10**6, 10**6), torch.ones(2, 6, 1, 1, 1, device="meta"))
    others = (torch.ones(2).to_sparse(), torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.bool))
    return [laughs, 2**4000, b"one", {"one"}, torch.float32, torch.Size((2, 3)), 1j, *tensors, *others]


def checkpoint_case(folder: Path) -> Case:
    """A model file damaged as bytes, inside its archive, or in what it holds; and pickles that bring code."""
    plan = Plan(Labels(("one", "two"), (1, 2)), (1.0, 1.0, 1.0), (8, 8, 8), Intensity("zscore", 0.5, 99.5), 1)
    network = build_network(input_channels(1, 3), 3, UNetConfig((2, 2), (1, 2), (1, 1)), 0)
    path, marker = folder / "model.pt", folder / "executed"
    save_model(path, Model(network, plan, ("a",), ("b",)), {"best": 0.5})
    whole = path.read_bytes()
    entries = torch.load(path, weights_only=True)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    objects = hostile_objects()

    def case(rng: random.Random) -> object:
        match rng.randrange(5):
            case 0:
                path.write_bytes(damaged(whole, rng))
            case 1:
                name = rng.choice([name for name in members if name.endswith("data.pkl")] * 3 + list(members))
                packing = rng.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))
                with zipfile.ZipFile(path, "w", packing) as archive:
                    for member, content in members.items():
                        archive.writestr(member, damaged(content, rng) if member == name else content)
            case 2:
                with suppress(OverflowError, struct.error, RuntimeError):  # some values cannot even be saved
                    torch.save(damaged_value(entries, rng), path)
            case 3:
                value = copy.deepcopy(entries)
                parent, key = rng.choice(list(places(value)))
                parent[key] = rng.choice(objects)
                torch.save(value, path)
            case 4:
                held = rng.choice((Bomb(marker), {"format": "deepedit", "version": 1, "plan": Bomb(marker)}))
                buffer = io.BytesIO()
                pickle.dump(held, buffer) if rng.random() < 0.5 else torch.save(held, buffer)
                path.write_bytes(buffer.getvalue())
        try:
            return load_model(path)
        finally:
            assert not marker.exists(), "code in the file was executed"

    return case


READERS = {
    "nifti": nifti_case,
    "itk": itk_case,
    "dicom": dicom_case,
    "dataset": dataset_case,
    "clicks": clicks_case,
    "fcsv": fcsv_case,
    "checkpoint": checkpoint_case,
    "folders": folders_case,
    "one-bad": one_bad_case,
}


def fuzz(reader: str, numbers: range, seed: int, folder: Path) -> tuple[Counter, list[str]]:
    """Run the cases of these numbers.

    Returns:
        How often each outcome came, ``"read"`` or an error's name; and the findings.
    """
    case = READERS[reader](folder)
    outcomes, findings = Counter(), []
    for number in numbers:
        try:
            # Within the outer try: the alarm may go off while the timer is being stopped.
            try:
                # Again and again: code that is left by an error may still wait, for its threads for example.
                signal.setitimer(signal.ITIMER_REAL, LONGEST, LONGEST)
                case(random.Random(f"{seed} {reader} {number}"))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            outcomes["read"] += 1
        except DeepEditError as error:
            outcomes[type(error).__name__] += 1
            lines = str(error).split("\n  ")  # a dataset's problems stand below each other
            if not all(line.isprintable() and len(line) < 5000 for line in lines):
                findings.append(f"case {number}: a message that is no line: {str(error)[:500]!r}")
        except (Exception, Hang):
            outcomes["unexpected"] += 1
            findings.append(f"case {number}: {traceback.format_exc(limit=-4)}")
    return outcomes, findings


def limit_memory() -> None:
    """Let this process have no more than it has now and a little."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, resource.RLIM_INFINITY))


def raise_hang(*_: object) -> None:
    raise Hang


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--reader", choices=READERS, action="append", help="default: all")
    options.add_argument("--cases", type=int, default=100_000, help="for each reader")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", type=int, help="this one case")
    given = options.parse_args()
    numbers = range(given.cases) if given.only is None else range(given.only, given.only + 1)
    signal.signal(signal.SIGALRM, raise_hang)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    limit_memory()
    bad = 0
    for reader in given.reader or READERS:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            start = time.perf_counter()
            outcomes, findings = fuzz(reader, numbers, given.seed, Path(folder))
            rate = len(numbers) / (time.perf_counter() - start)
        print(f"{reader}: {len(numbers)} cases, {rate:.0f} a second, {json.dumps(dict(outcomes.most_common()))}")
        print(*findings[:20], sep="\n", end="\n" * bool(findings), flush=True)
        bad += len(findings)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
