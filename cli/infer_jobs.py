"""What ``deepedit-infer`` reads and writes. All files are found and checked before the first image is segmented."""

import argparse
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepedit.errors import DatasetError, FileError
from deepedit.files import make_folder, one_line
from deepedit.io.dicom_seg import refuse_without_series
from deepedit.io.dicom_series import is_series
from deepedit.io.left_out import left_out, some
from deepedit.io.msd import case_of_image, find_images
from deepedit.io.pairing import Case, volume_files
from deepedit.io.suffixes import DICOM, IMAGES, IMAGES_WRITTEN, LABELS, LABELS_WRITTEN, ending
from deepedit.io.volumes import check_name
from deepedit_cli.common import UsageError, refuse_existing

FOLDER_ENDING = ".nii.gz"
CLICK_ENDINGS = (".mrk.json", ".json", ".fcsv", ".csv", ".tsv")


@dataclass(frozen=True)
class Job:
    """One image, the other files to read with it, and the files to write; None for files that are not asked for."""

    case: Case
    output: Path
    clicks: Path | None = None
    initial: Path | None = None
    save_clicks: Path | None = None
    probabilities: Path | None = None
    preview: Path | None = None

    @property
    def outputs(self) -> list[Path]:
        paths = (self.output, self.save_clicks, self.probabilities, self.preview)
        return [path for path in paths if path is not None]

    def naming(self, message: str) -> str:
        """The message, with the image's name in front if it names none of the files that are read."""
        read = [one_line(path) for path in (*self.case.image, self.clicks, self.initial) if path is not None]
        return message if any(name in message for name in read) else f"{read[0]}: {message}"


def find_jobs(options: argparse.Namespace, image_channels: int, tell: Callable[[str], None]) -> list[Job]:
    """A job for each image that the options name.

    Args:
        options: as `deepedit_cli.infer_options` parses them.
        image_channels: number of image channels of the model.
        tell: called with a line about files that are not read.

    Raises:
        DeepEditError: if something is missing or does not match, would be overwritten, or cannot be written.
    """
    jobs = [_single_job(options, image_channels)] if is_single(options) else _folder_jobs(options, image_channels, tell)
    _check_outputs(jobs, options.overwrite)
    return jobs


def is_single(options: argparse.Namespace) -> bool:
    """Whether the input is one image: a file, or the folder of a DICOM series.

    Raises:
        UsageError: if a series is to be chosen where there is none to choose from.
    """
    folder = options.input
    single = not folder.is_dir() or is_series(folder)
    if options.series is not None and not (single and folder.is_dir()):
        raise UsageError(f"--series: {one_line(folder)} is no folder with files of DICOM series; leave it out")
    return single


def _single_job(options: argparse.Namespace, image_channels: int) -> Job:
    case = case_of_image(options.input, image_channels, options.series)
    output = options.output
    if output.is_dir():
        output = output / (case.name + (options.ending or FOLDER_ENDING))
    elif options.ending is not None:
        raise UsageError(f"--ending {options.ending}: --output names a file, whose own ending counts; leave it out")
    for option in ("clicks", "initial_segmentation"):
        path = getattr(options, option)
        if path is not None and not path.is_file():
            what = (
                "is a folder, and --input one image; give a file" if path.is_dir() else "no such file; check the path"
            )
            raise FileError(f"{one_line(path)}: {what}")
    for option in ("save_clicks", "probabilities", "preview"):
        path = getattr(options, option)
        if path is not None and path.is_dir():
            raise UsageError(f"{_flag(option)} {one_line(path)}: is a folder, and --input one image; give a file")
    return Job(
        case,
        output,
        options.clicks,
        options.initial_segmentation,
        options.save_clicks,
        options.probabilities,
        options.preview,
    )


def _folder_jobs(options: argparse.Namespace, image_channels: int, tell: Callable[[str], None]) -> list[Job]:
    folder = options.input
    if (folder / "imagesTr").is_dir() and not volume_files(folder):
        raise DatasetError(f"{one_line(folder)}: is a dataset; give a folder of images, as {folder / 'imagesTr'}")
    cases = find_images(folder, image_channels)
    names = [case.name for case in cases]
    others = left_out(folder, IMAGES)
    notes = [f"{one_line(folder)}: {others}"] if others else []
    clicks = _matching(options, "clicks", CLICK_ENDINGS, names, notes)
    initial = _matching(options, "initial_segmentation", LABELS, names, notes)
    for note in notes:
        tell(f"note: {note}")

    def beside(option: str, case: Case, ending: str) -> Path | None:
        target = getattr(options, option)
        return None if target is None else target / (case.name + ending)

    jobs = [
        Job(
            case,
            options.output / (case.name + (options.ending or FOLDER_ENDING)),
            clicks.get(case.name),
            initial.get(case.name),
            beside("save_clicks", case, ".json"),
            beside("probabilities", case, FOLDER_ENDING),
            beside("preview", case, ".png"),
        )
        for case in cases
    ]
    for option in ("output", "save_clicks", "probabilities", "preview"):
        target = getattr(options, option)
        if target is not None:
            if target.is_file():
                raise FileError(f"{_flag(option)} {one_line(target)}: is a file, and --input a folder; give a folder")
            make_folder(target)
    return jobs


def _matching(
    options: argparse.Namespace, option: str, endings: Sequence[str], names: Sequence[str], notes: list[str]
) -> dict[str, Path]:
    """The files of a folder by the name of the case that they belong to.

    Args:
        endings: endings of the files to find, in any case of letters.
        notes: a list to which lines are added about files that are left out, and about cases without a file.

    Raises:
        DatasetError: if two files belong to one case, if no case has a file, or if some files belong to no case while
            some case has no file, so that a name must be wrong.
        UsageError: if the path is no folder.
    """
    folder = getattr(options, option)
    if folder is None:
        return {}
    if not folder.is_dir():
        raise UsageError(f"{_flag(option)} {one_line(folder)}: is no folder, and --input is one; give a folder")
    found: dict[str, Path] = {}
    strays = []
    for path in sorted(folder.iterdir()):
        end = ending(path.name, endings)
        if not end or path.name.startswith("."):
            continue
        name = unicodedata.normalize("NFC", path.name[: -len(end)])
        if name in found:
            raise DatasetError(f"{one_line(path)}: {one_line(found[name].name)} is for the same image; keep one")
        if name not in names:
            strays.append(path.name)
        found[name] = path
    listed = some(strays)
    if strays and len(found) - len(strays) < len(names):
        raise DatasetError(
            f"{one_line(folder)}: {listed}: of no image in {one_line(options.input)}; "
            "name each file as its image, or take it out"
        )
    others, place = left_out(folder, endings), one_line(folder)
    if not found:
        what = others or "it is empty"
        raise DatasetError(f"{place}: nothing in it is for an image of {one_line(options.input)}; {what}")
    if others:
        notes.append(f"{place}: {others}")
    if strays:
        notes.append(f"{place}: left out {listed}: of no image in {one_line(options.input)}")
    without = [name for name in names if name not in found]
    if without:
        what = "clicks" if option == "clicks" else "a segmentation to correct"
        notes.append(
            f"{len(without)} of {len(names)} images have no file in {place}, and so not {what}: {some(without)}"
        )
    return found


def _check_outputs(jobs: Sequence[Job], overwrite: bool) -> None:
    images = {os.path.realpath(path) for job in jobs for path in job.case.image}
    written: set[str] = set()
    for job in jobs:
        for path in job.outputs:
            real = os.path.realpath(path)
            if real in images:
                raise FileError(f"{one_line(path)}: is an image to segment, and would be replaced; choose another name")
            if real in written:
                raise FileError(f"{one_line(path)}: would be written twice; give each output a name of its own")
            written.add(real)
            refuse_existing(path, overwrite)
            if path.parent.is_file():
                raise FileError(
                    f"{one_line(path)}: {one_line(path.parent.name)} is a file, not a folder; choose another"
                )
            if not path.parent.is_dir():
                raise FileError(f"{one_line(path)}: its folder does not exist; create it first")
            if not os.access(path.parent, os.W_OK):
                raise FileError(f"{one_line(path)}: its folder may not be written to; choose another")
        check_name(job.output, LABELS_WRITTEN)
        if ending(job.output.name, (DICOM,)):
            refuse_without_series(job.output, job.case.image[0].is_dir())
        if job.probabilities is not None:
            check_name(job.probabilities, IMAGES_WRITTEN)
        if job.save_clicks is not None and job.save_clicks.suffix.lower() != ".json":
            raise FileError(f"{one_line(job.save_clicks)}: clicks are written as JSON; let its name end in .json")


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
