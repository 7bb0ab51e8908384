"""Folders for the fuzzer: with contents of all kinds, and with one bad file among those of four cases."""

import argparse
import contextlib
import io
import random
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from deepedit.errors import FileError
from deepedit.evaluation import evaluate_dataset
from deepedit.io import write_label
from deepedit.io.left_out import left_out
from deepedit.io.msd import Case, find_dataset, find_images
from deepedit.io.nifti import write_volume
from deepedit.io.suffixes import IMAGES, LABELS, voxel_files
from deepedit.network import checkpoint
from deepedit.network.checkpoint import Model
from deepedit.volume import Volume
from deepedit_cli import infer
from deepedit_cli.infer_jobs import CLICK_ENDINGS, find_jobs
from tests.inference.networks import random_model
from tests.soak.mutations import damaged

STEMS = ("a", "b", "a_0000", "a_0001", "b_0000", "x y", "c.d", "-n", "é", unicodedata.normalize("NFD", "é"), "q'", "")
NIFTI = (".nii.gz", ".NII.GZ", ".nii", ".Nii")
ENDINGS = (
    *NIFTI * 2,
    *(".nrrd", ".seg.nrrd", ".hdr", ".img", ".MHA", ".json", ".mrk.json", ".MRK.JSON", ".fcsv", ".CSV"),
    *("", ".txt", ".gz", ".nii.gz.part", ".nii.bz2"),
)


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def listed(folder: Path) -> list[str]:
    """The visible files, without those that hold the voxels of a header beside them."""
    names = visible(folder)
    return [name for name in names if name not in voxel_files(names)]


def told(line: str | None) -> int:
    """How many files a line of what is left out tells of."""
    if line is None:
        return 0
    more = sum(map(int, re.findall(r" and (\d+) more(?=, |;|$)", line)))
    lists = re.sub(r" and \d+ more(?=, |;|$)", "", line).partition("left out ")[2].split("; and ")
    return more + sum(len(re.split(r", to be converted|, as only", each)[0].split(", ")) for each in lists)


def fill(folder: Path, rng: random.Random, contents: list[bytes]) -> None:
    """An empty folder filled with files, folders and links of any name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for _ in range(rng.randrange(9)):
        name = rng.choice(("", "", "", "", ".", "._")) + rng.choice(STEMS) + rng.choice(ENDINGS)
        path = folder / name
        if not name.strip(".") or path.exists() or path.is_symlink():
            continue
        kind = rng.randrange(20)
        if kind == 0:
            path.mkdir()
        elif kind == 1:
            path.symlink_to("nowhere")
        else:
            path.write_bytes(rng.choice(contents))


def folders_case(folder: Path) -> Callable[[random.Random], object]:
    """Images, datasets, and folders of clicks and starts: all that is visible is read, told of, or refused."""
    grid = Volume(np.zeros((4, 4, 4), np.float32))
    write_label(folder / "label.nii.gz", np.arange(64).reshape(4, 4, 4) % 3, grid)
    write_volume(folder / "image.nii", np.arange(64.0).reshape(4, 4, 4), grid)
    nifti = [(folder / name).read_bytes() for name in ("label.nii.gz", "image.nii")]
    clicks = [b'{"one": [[1, 2, 3]]}', b"label,i,j,k\none,1,2,3\n"]

    def images(rng: random.Random) -> object:
        room = folder / "images"
        fill(room, rng, [*nifti, b"", b"damaged"])
        cases = find_images(room, rng.choice((None, 1, 2)))
        assert sum(len(case.image) for case in cases) + told(left_out(room, IMAGES)) == len(listed(room))
        assert len({case.name for case in cases}) == len(cases)
        return cases

    def dataset(rng: random.Random) -> object:
        for room in ("imagesTr", "labelsTr"):
            fill(folder / room, rng, [*nifti[:1], *nifti * rng.randrange(3)])
        if rng.random() < 0.7:  # so that now and then all fits
            for path in (folder / "labelsTr").iterdir():
                path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)
            for path in (folder / "imagesTr").glob("*.[nN]*"):
                if path.is_file():
                    (folder / "labelsTr" / path.name).write_bytes(nifti[0])
        found = find_dataset(folder)
        for room, read in (
            ("imagesTr", sum(len(case.image) for case in found.cases)),
            ("labelsTr", len(found.cases)),
        ):
            lines = [line for line in found.warnings if line.startswith(f"{room}: left out ")]
            assert len(lines) < 2
            assert read + told(lines[0] if lines else None) == len(listed(folder / room))
        return found

    def jobs(rng: random.Random) -> object:
        for room, contents in (("images", nifti), ("clicks", clicks), ("starts", nifti)):
            fill(folder / room, rng, contents)
        shutil.rmtree(folder / "out", ignore_errors=True)
        names = dict.fromkeys(("save_clicks", "probabilities", "preview"))
        options = argparse.Namespace(
            input=folder / "images",
            output=folder / "out",
            clicks=rng.choice((None, folder / "clicks")),
            initial_segmentation=rng.choice((None, folder / "starts")),
            overwrite=False,
            ending=None,
            series=None,
            **names,
        )
        said: list[str] = []
        found = find_jobs(options, 1, said.append)
        lines = "\n".join(said)
        for room, used, endings in (
            (options.clicks, [job.clicks for job in found if job.clicks], CLICK_ENDINGS),
            (options.initial_segmentation, [job.initial for job in found if job.initial], LABELS),
        ):
            if room is not None:
                strays = re.findall(rf"{re.escape(str(room))}: left out (.*): of no image", lines)
                count = sum(len(each.split(", ")) for each in strays)
                assert len(used) + count + told(left_out(room, endings)) == len(
                    listed(room) if endings == LABELS else visible(room)
                ), lines
                without = len(found) - len(used)
                assert (f"{without} of {len(found)} images have no file in {room}," in lines) == (without > 0)
        return found

    return lambda rng: rng.choice((images, dataset, jobs))(rng)


NAMES = ("a", "b", "c", "d")


def one_bad_case(folder: Path) -> Callable[[random.Random], object]:
    """Four cases, one of which has a bad file: the other three are as they are without it, by either command."""
    model = random_model(spacing=(20.0,) * 3)
    for number, name in enumerate(NAMES):
        data = np.random.default_rng(number).normal(1, 1, (12, 12, 12)).astype(np.float32)
        label = (data > 1.5) + (data > 2.5)
        grid = Volume(data, np.diag([4.0, 4.0, 4.0, 1.0]))
        for room, write, values in (
            ("images", write_volume, data),
            ("labels", write_label, label),
            ("starts", write_label, label),
        ):
            (folder / room).mkdir(exist_ok=True)
            write(folder / room / f"{name}.nii.gz", values, grid)
        (folder / "clicks").mkdir(exist_ok=True)
        (folder / "clicks" / f"{name}.json").write_text('{"right": [[6, 6, 6]]}')
    cases = [Case(name, (folder / f"images/{name}.nii.gz",), folder / f"labels/{name}.nii.gz") for name in NAMES]
    command = [
        "--model=m",
        f"--input={folder / 'images'}",
        f"--output={folder / 'out'}",
        f"--clicks={folder / 'clicks'}",
    ]
    command += [f"--initial-segmentation={folder / 'starts'}", "--device=cpu", "--amp=off"]

    def segmented() -> tuple[dict[str, bytes], str]:
        shutil.rmtree(folder / "out", ignore_errors=True)
        with (
            _loading(model),
            contextlib.redirect_stderr(io.StringIO()) as err,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            status = infer.main(command)
        results = {path.name[0]: path.read_bytes() for path in (folder / "out").iterdir()}
        assert status == (0 if len(results) == 4 else 2), err.getvalue()
        return results, err.getvalue()

    def evaluated() -> tuple[dict[str, object], str]:
        failures: dict[str, str] = {}
        rows = evaluate_dataset(
            *(model, cases, 1, folder / "starts"),
            amp="off",
            on_failure=lambda case, reason: failures.update({case.name: reason}),
            on_note=lambda note: None,
        )
        results = {name: [(row.label, row.dice) for row in rows if row.case == name] for name in NAMES}
        assert all(bool(results[name]) == (name not in failures) for name in NAMES)
        return {name: found for name, found in results.items() if found}, " ".join(failures.values())

    ways = {
        segmented: (segmented()[0], ("images", "starts", "clicks")),
        evaluated: (evaluated()[0], ("images", "labels", "starts")),
    }

    def case(rng: random.Random) -> object:
        way = rng.choice(list(ways))
        expected, rooms = ways[way]
        name, room = rng.choice(NAMES), rng.choice(rooms)
        path = folder / room / f"{name}{'.json' if room == 'clicks' else '.nii.gz'}"
        whole = path.read_bytes()
        try:
            _spoil(path, whole, rng)
            results, said = way()
        finally:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            path.write_bytes(whole)
        others = {each: result for each, result in expected.items() if each != name}
        assert {each: result for each, result in results.items() if each != name} == others
        if name not in results:
            first = said.splitlines()[0].removeprefix("deepedit-infer: ")
            assert f"{name}." in first, said
            raise FileError(first)
        return results

    return case


def _spoil(path: Path, whole: bytes, rng: random.Random) -> None:
    """Make a file bad in one of the ways in which files are."""
    path.unlink()
    match rng.randrange(8):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to("nowhere")
        case 2:
            path.write_bytes(rng.choice((b"", b"a letter to the doctor", whole[: len(whole) // 2])))
        case _:
            path.write_bytes(damaged(whole, rng, focus=64))


@contextlib.contextmanager
def _loading(model: Model) -> Iterator[None]:
    """Whatever model is asked for, it is this one."""
    before, checkpoint.load_model = checkpoint.load_model, lambda path, device: model
    try:
        yield
    finally:
        checkpoint.load_model = before
