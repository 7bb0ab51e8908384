"""Dataset folders as in the Medical Segmentation Decathlon, and as nnU-Net lays them out.

imagesTr/case.nii.gz, or one file for each channel: case_0000.nii.gz, case_0001.nii.gz, ...
labelsTr/case.nii.gz
dataset.json          optional: label names, modality, the list of pairs
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deepedit.errors import DatasetError, FileError
from deepedit.files import one_line
from deepedit.io.dataset_checks import CaseReport, check_cases, grouped_notes, usual_channels
from deepedit.io.dataset_json import IGNORE, MAX_LABELS, check_label, labels_option, read_description
from deepedit.io.grids import misfit, near_misfit
from deepedit.io.left_out import left_out, left_out_of_dataset
from deepedit.io.pairing import (
    Case,
    channel_groups,
    check_folder,
    pair_files,
    series_name,
    twice,
    volume_files,
    why_no_cases,
)
from deepedit.io.segment_names import called_otherwise, contradicting_names, shared_names
from deepedit.io.suffixes import IMAGES, ending, stem
from deepedit.io.volumes import read_volume
from deepedit.plan import Labels
from deepedit.volume import DEFAULT_READING, Reading, Volume

MAX_PROBLEMS_SHOWN = 30


@dataclass(frozen=True)
class Dataset:
    """A folder whose files were all found to fit together.

    Attributes:
        cases: in the order of their names.
        labels: foreground names and file values.
        ignore: the value of voxels whose class is not known; None: the class of all voxels is known.
        modality: as stated in `dataset.json`, such as ``"CT"`` or ``"MRI"``; None if it is not stated.
        image_channels: number of channels, the same for all cases.
        warnings: one line each about what is unusual but does no harm.
    """

    folder: Path
    cases: tuple[Case, ...]
    labels: Labels
    modality: str | None
    image_channels: int
    warnings: tuple[str, ...] = ()
    ignore: int | None = None


def find_dataset(
    folder: str | os.PathLike[str],
    labels: Mapping[str, int] | None = None,
    reading: Reading = DEFAULT_READING,
) -> Dataset:
    """Find and check the cases of a dataset folder.

    Pairs of image and label come from ``dataset.json`` if it lists them; else they are matched by name. Hidden files
    (such as ``._`` files) are skipped. Every label file is read in full, and the header of every image.

    Args:
        labels: names to file values. Other values become background, except that of ``ignore``, named here or in
            ``dataset.json``, which counts nowhere. By default the labels are those that ``dataset.json`` names, or,
            without that file, all values found, with the names of their segments, or ``label_<value>``.
        reading: what is believed of headers that contradict themselves.

    Raises:
        DatasetError: with a list of all problems: unmatched or damaged files, a pair on different grids, a value
            without a name, a requested value that no file has, ...
        FileError: if ``dataset.json`` cannot be opened.
    """
    folder = Path(folder)
    check_folder(folder)
    description = read_description(folder)
    problems = list(description.problems)
    warnings: list[str] = []
    if labels is None:
        problems += description.label_problems
    else:
        problems += [f"`labels`: {problem}" for item in labels.items() if (problem := check_label(*item))]
    cases = pair_files(folder, description, problems, warnings)
    if not cases and not problems:
        problems.append(why_no_cases(folder))
    # Where a case lacks a file, it may be one of those.
    (problems if problems else warnings).extend(left_out_of_dataset(folder))
    reports = check_cases(folder, [(case.image, case.label_file) for case in cases], reading)
    problems += [problem for report in reports for problem in report.problems]
    channels = usual_channels(reports)
    problems += [
        f"{case.name}: its image has {report.channels} channels, most have {channels}"
        for case, report in zip(cases, reports, strict=True)
        if report.channels not in (0, channels)
    ]
    found = _where_values_are(cases, reports)
    ignore = description.ignore
    if labels is not None:
        ignore = labels.get(IGNORE, None if ignore in labels.values() else ignore)
        labels = {name: value for name, value in labels.items() if name != IGNORE}
    if ignore is not None:
        found.pop(ignore, None)
    complete = all(report.values is not None for report in reports)
    names = shared_names(reports)
    chosen = _choose_labels(labels, description.labels, found, complete, names, problems, warnings)
    problems += contradicting_names(cases, reports, chosen)
    if problems:
        raise DatasetError(listed_problems(folder, problems))
    warnings += grouped_notes(reports)
    if others := called_otherwise(names, chosen):
        warnings.append(f"label files name values otherwise: {'; '.join(others[:5])}; both are taken for the same")
    values = set(chosen.values())
    for case, report in zip(cases, reports, strict=True):
        if values.isdisjoint(report.values or ()):
            warnings.append(f"{case.name}: its label file is empty of foreground")
    if len(cases) == 1:
        warnings.append("a single case is used to train on and to validate; its Dice says nothing about other images")
    return Dataset(
        folder, tuple(cases), Labels.from_mapping(chosen), description.modality, channels, tuple(warnings), ignore
    )


def _where_values_are(cases: Sequence[Case], reports: Sequence[CaseReport]) -> dict[int, list[str]]:
    """For each foreground value, in ascending order, the label files that have it."""
    places: dict[int, list[str]] = {}
    for case, report in zip(cases, reports, strict=True):
        for value in report.values or ():
            places.setdefault(value, []).append(one_line(f"{case.label_file.parent.name}/{case.label_file.name}", 150))
    return dict(sorted(places.items()))


def _choose_labels(
    requested: Mapping[str, int] | None,
    described: Mapping[str, int] | None,
    found: Mapping[int, list[str]],
    complete: bool,
    names: Mapping[int, str],
    problems: list[str],
    warnings: list[str],
) -> dict[str, int]:
    """Names and values of the labels to train, foreground only; what does not fit is added to `problems`.

    Unless they are requested or described, they are called as the label files call them, see `names`. A value that no
    file has is a problem or a warning only if `complete`, that is, if all label files could be read.
    """
    if complete and not found and not problems:
        problems.append("labelsTr: every label file is empty of foreground")
    if requested is not None:
        chosen = {name: value for name, value in requested.items() if value != 0}
        have = ", ".join(map(str, list(found)[:10])) or "none"
        problems += [
            f"`labels`: no label file has the value {value} of {name} (found: {have})"
            for name, value in chosen.items()
            if value not in found and complete
        ]
        return chosen
    if described is not None:
        problems += _unnamed(described, found)
        warnings += [
            f"dataset.json: no label file has the value {value} of {name}"
            for name, value in described.items()
            if value not in found
        ]
        return dict(described)
    if len(found) > MAX_LABELS:
        problems.append(f"labelsTr: {len(found)} different values; are these images? labels are few whole numbers")
    return {names.get(value, f"label_{value}"): value for value in found}


def _unnamed(labels: Mapping[str, int], found: Mapping[int, list[str]]) -> list[str]:
    """A problem for each value that the label files have and dataset.json does not name."""
    known = ", ".join(f"{value} {name}" for name, value in list(labels.items())[:10])
    kept = {name: value for name, value in labels.items() if value in found}
    lost = [name for name in labels if name not in kept]
    unnamed = [value for value in found if value not in labels.values()]
    # One name without a value and one value without a name are likely to belong together.
    name = lost[0] if len(lost) == len(unnamed) == 1 else "NAME"
    lines = []
    for value in unnamed:
        places = ", ".join(found[value][:3]) + f" and {len(found[value]) - 3} more" * (len(found[value]) > 3)
        hints = [("name it with ", labels_option({**kept, name: value})), ("leave it out: ", labels_option(kept))]
        mend = ", or ".join(words + option for words, option in hints if option)
        lines.append(
            f"{places}: value {value} has no name in dataset.json (known: {known}); "
            f"{mend or 'name it there, or set its voxels to 0'}"
        )
    return lines


def listed_problems(folder: Path, problems: Sequence[str]) -> str:
    """One message: a summary, then one line for each problem."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{one_line(folder)}: {count} to mend before this dataset can be used:", *problems[:MAX_PROBLEMS_SHOWN]]
    if len(problems) > MAX_PROBLEMS_SHOWN:
        lines.append(f"and {len(problems) - MAX_PROBLEMS_SHOWN} more")
    return "\n  ".join(lines)


def find_images(folder: str | os.PathLike[str], image_channels: int | None = None) -> tuple[Case, ...]:
    """The images in a folder, as cases without labels, in the order of their names.

    Files ``case_0000``, ``case_0001``, ... are the channels of one case.

    Args:
        image_channels: number of channels of the model. If given, a group of another size is not taken for the channels
            of one case: with 1, ``scan_0000`` and ``scan_0001`` are two cases.

    Raises:
        DatasetError: if the folder is missing, cannot be read, or holds no image.
    """
    folder = Path(folder)
    check_folder(folder)
    files = volume_files(folder)
    for paths in files.values():
        if len(paths) > 1:
            raise DatasetError(f"{one_line(folder)}: {twice(paths)}")
    if not files:
        others = left_out(folder, IMAGES)
        raise DatasetError(
            f"{one_line(folder)}: holds no image ({', '.join(IMAGES)}, or a folder with a DICOM series)"
            + (f"; {others}" if others else "")
        )
    return image_cases(files, image_channels)


def case_of_image(image: Path, image_channels: int | None = None, series: str | None = None) -> Case:
    """The case that `find_images` would find for an image file among the names in its folder.

    Args:
        image: a file, or the folder of a DICOM series.
        series: the SeriesInstanceUID of the one that is meant, where the folder holds several.
    """
    if image.is_dir():
        return Case(series_name(image), (image,), series=series)
    if ending(image.name, IMAGES) and image.is_file():
        for case in image_cases(volume_files(image.parent), image_channels):
            if image in case.image:
                return case
    return Case(stem(image.name), (image,), series=series)


def image_cases(
    files: Mapping[str, Sequence[Path]], image_channels: int | None = None, apart: Collection[str] = ()
) -> tuple[Case, ...]:
    """The cases without labels that some files are, by their names without ending, in the order of their names.

    Args:
        image_channels: as for `find_images`.
        apart: names of files that are no channel of another case, since a label map has their name.
    """
    cases = []
    for name, members in channel_groups(list(files)).items():
        group = [files[member][0] for member in members]
        fits = image_channels is None or len(group) == image_channels
        if name not in files and fits and not any(member in apart for member in members):
            cases.append(Case(name, tuple(group)))
        else:
            cases += [Case(member, (path,)) for member, path in zip(members, group, strict=True)]
    return tuple(sorted(cases, key=lambda case: case.name))


def read_case(case: Case, reading: Reading = DEFAULT_READING) -> Volume:
    """The image of a case; several channel files are stacked to ``[C, X, Y, Z]``.

    Args:
        reading: what is believed of a header that contradicts itself.

    Raises:
        FileError: if a file cannot be read, the channels lie on different grids, or every voxel has the same value.
    """
    volume = _stacked(case, reading)
    if volume.data.size and volume.data.min() == volume.data.max():
        value = volume.data.flat[0]
        raise FileError(f"{one_line(case.image[0])}: every voxel has the value {value:g}; export the image again")
    return volume


def _stacked(case: Case, reading: Reading) -> Volume:
    first = read_volume(case.image[0], reading.affine, reading.units, case.series)
    if len(case.image) == 1:
        return first
    data = np.empty((len(case.image), *first.shape), np.float32)
    notes: dict[str, None] = {}
    for channel, path in enumerate(case.image):
        volume = first if channel == 0 else read_volume(path, reading.affine, reading.units)
        notes |= dict.fromkeys(volume.notes)
        difference, nearly = misfit(first, volume), near_misfit(first, volume)
        if nearly:
            notes[f"channel {channel} {nearly}"] = None
        if volume.channels > 1:
            difference = f"{volume.channels} channels in a file that should be one"
        if difference:
            raise FileError(f"{one_line(path)}: does not fit {one_line(case.image[0])}: {difference}")
        data[channel] = volume.data
    return replace(first, data=data, notes=tuple(notes))


def split_cases(
    names: Iterable[str],
    training_share: float = 0.9,
    seed: int = 0,
    *,
    seen: Collection[str] = (),
    held_back: Collection[str] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Case names for training and for validation, each in ascending order.

    A case is used for training if a hash of the seed and its name, scaled to [0, 1), is below the share. So adding or
    removing a case moves no other case, and the share is met on average, not exactly. Only if one side would stay
    empty, the case with the highest hash goes to validation, or the one with the lowest to training. A single case is
    used for both; then the validation tells only whether training works.

    Args:
        seen, held_back: cases that an earlier model was trained on, and those that were held back from it. They stay on
            their side, so that the cases for validation compare both models. If every case was seen, there is no such
            case, and the cases are divided as if none was.

    Raises:
        ValueError: if there is no name, if a name appears twice, or if the share is not in (0, 1].
    """
    names = sorted(names)
    if not names or len(set(names)) < len(names) or not 0 < training_share <= 1:
        raise ValueError(f"a split needs distinct names and a share in (0, 1]; got {len(names)}, {training_share}")
    if len(names) == 1:
        return tuple(names), tuple(names)
    fraction = {name: _hash_fraction(name, seed) for name in names}
    fresh = [name for name in names if name not in seen] or names
    held = {name for name in fresh if name in held_back or fraction[name] >= training_share}
    if not held:
        held.add(max(fresh, key=fraction.__getitem__))
    if len(held) == len(names):
        held.remove(min(names, key=lambda name: (name in held_back, fraction[name])))
    training = {name for name in names if name not in held}
    return tuple(n for n in names if n in training), tuple(n for n in names if n not in training)


def _hash_fraction(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
