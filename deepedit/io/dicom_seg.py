"""DICOM SEG, the segmentations of DICOM, read and written by highdicom alone.

Other libraries lose segments or the places of frames. highdicom is an extra, imported only where such a file is met.
Source: DICOM PS3.3, annex A.51, https://dicom.nema.org/medical/dicom/current/output/html/part03.html.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from deepedit import __version__
from deepedit.colours import colour
from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading, replace_by_file
from deepedit.io.codes import TISSUE, Code, Term
from deepedit.io.dicom_header import AGAIN, is_dicom
from deepedit.io.dicom_sheared import sheared_label_map
from deepedit.io.nifti_affine import check_affine
from deepedit.io.values import checked_labels, foreground_values, label_values
from deepedit.volume import Volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # to RAS, and from it
PROGRAM = "DeepEdit"
SERIES_NUMBER = 300  # as 3D Slicer numbers its segmentations
MAX_NAME = 64  # characters of a segment's label, by DICOM PS3.5, section 6.2: LO
MAX_SEGMENTS = 2**16 - 1


def highdicom(name: str) -> Any:
    """highdicom; a FileError about the file of that name if it is not installed."""
    try:
        import highdicom
    except ImportError as error:
        raise FileError(f"{name}: DICOM SEG needs highdicom; install it with: pip install 'deepedit[dicom]'") from error
    return highdicom


def read_label(path: str | os.PathLike[str]) -> Volume:
    """A label map on the grid of its frames, which is a part of its image's where others are left out as empty.

    The numbers of the segments are the values, and their labels the names of these.

    Returns:
        ``[X, Y, Z]`` of uint8 or int32; columns, rows and frames, these along their normal.

    Raises:
        FileError: if highdicom is not installed; if the file is missing, damaged, or no DICOM SEG; or if it holds
            fractions, segments that overlap, or frames that do not make one grid.
    """
    name = one_line(path)
    open_for_reading(path).close()
    hd = highdicom(name)
    if not is_dicom(path):
        raise FileError(f"{name}: this is not a DICOM file; {AGAIN.replace('series', 'segmentation')}")
    with by_highdicom(name, "cannot be read as DICOM SEG"):
        segmentation = hd.seg.segread(path)
        if segmentation.segmentation_type == hd.seg.SegmentationTypeValues.FRACTIONAL:
            raise FileError(f"{name}: holds fractions, not labels; export it as a binary segmentation or a label map")
        data, affine = _label_map(segmentation, name)
        numbers = [int(number) for number in segmentation.segment_numbers if number]
        names = {number: str(segmentation.get_segment_description(number).segment_label) for number in numbers}
    # Frames of highdicom may run against their normal, to be right-handed in its way.
    if np.linalg.det(affine[:3, :3]) < 0:
        data = data[:, :, ::-1]
        affine = affine.copy()
        affine[:3, 3] += affine[:3, 2] * (data.shape[2] - 1)
        affine[:3, 2] *= -1
    affine = LPS @ affine
    check_affine(affine, name)
    values = label_values(np.ascontiguousarray(data.T).reshape(-1), name)
    return Volume(values.reshape(data.shape[::-1]).T, affine, names=names)


def write_label(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    like: Volume,
    names: Mapping[int, str] | None = None,
    terms: Mapping[str, Term] | None = None,
    automatic: bool = True,
) -> None:
    """Write a label map as DICOM SEG that refers to the series of its image. Frames without a label are left out.

    Values 1..n become the segments of a binary segmentation, which all programs know. Other values can be numbers of
    segments only in a segmentation of the newer type LABELMAP, which is written then. What it says of the patient is
    taken from the series, and from nowhere else. Two files of the same labels differ in their unique identifiers and
    times.

    Args:
        path: a name that ends in ``.dcm``.
        labels: ``[X, Y, Z]`` integers or booleans from 0 on.
        like: the image that was segmented, which was read from a DICOM series.
        names: of values, also of those that no voxel has; a value that has none is called ``label_<value>``. Of a name
            that DICOM cannot hold, the first 64 characters are taken, and ``/`` for a backslash.
        terms: of names; ``TISSUE`` for those that have none.
        automatic: whether no one had a hand in it.

    Raises:
        FileError: if highdicom is not installed, if `like` was not read from a DICOM series or the series is not as it
            was, or if the file cannot be written; an earlier file of that name stays as it was.
        ValueError: if the shape is not that of `like` or the values are not labels.
    """
    name = one_line(path)
    highdicom(name)
    checked_labels(labels, like.shape)
    refuse_without_series(path, bool(like.slices))
    with by_highdicom(name, "cannot be made a DICOM SEG of its series"):
        segmentation = segmentation_of(_sources(like), labels, like, names, terms, automatic)
        with replace_by_file(path, ".dcm") as temporary:
            segmentation.save_as(temporary)


def segmentation_of(
    sources: Sequence[Any],
    labels: np.ndarray,
    like: Volume,
    names: Mapping[int, str] | None = None,
    terms: Mapping[str, Term] | None = None,
    automatic: bool = True,
) -> Any:
    """The data set of highdicom that `write_label` writes.

    Args:
        sources: data sets of the slices, without voxels, in the order of the last axis.
        labels, like, names, terms, automatic: as for `write_label`.

    Raises:
        FileError: if DICOM SEG cannot hold the labels.
        ValueError: if the shape is not that of `like` or the values are not labels.
    """
    import highdicom as hd

    labels = checked_labels(labels, like.shape)
    names = dict(names or {})
    names |= {value: f"label_{value}" for value in foreground_values(labels) if value not in names}
    if not names or max(names) > MAX_SEGMENTS:
        what = f"{max(names)} is too large a label for it" if names else "there is no label, nor a name of one"
        raise FileError(f"DICOM SEG cannot be written: {what}; choose another format, such as .nii.gz")
    segments = [
        _segment(hd, number, value, text, (terms or {}).get(text, TISSUE), automatic)
        for number, (value, text) in enumerate(sorted(names.items()), 1)
    ]
    measures = _measures(hd, like)
    binary = sorted(names) == list(range(1, len(names) + 1))
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=np.ascontiguousarray(labels.T),
        segmentation_type="BINARY" if binary else "LABELMAP",
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=PROGRAM,
        manufacturer_model_name=PROGRAM,
        software_versions=__version__,
        device_serial_number="none",
        pixel_measures=measures,
        content_label="SEGMENTATION",
        content_description="Segmentation",
        series_description="Segmentation",
        omit_empty_frames=bool(labels.any()),
    )
    segmentation.ContentCreatorName = ""
    # Of frames that are not straight behind each other highdicom leaves it out, and empty frames need not be there.
    spacing = measures[0].SpacingBetweenSlices
    segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = spacing
    return segmentation


def refuse_without_series(path: str | os.PathLike[str], has_series: bool) -> None:
    """Raise a FileError if a DICOM SEG is to be written of an image that is no DICOM series."""
    if not has_series:
        raise FileError(
            f"{one_line(path)}: a DICOM SEG belongs to a DICOM series, and this image was not read from one; "
            "choose another format, such as .nii.gz"
        )


def _label_map(segmentation: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """``[X, Y, Z]``, the label map of all segments, and its affine to LPS mm."""
    try:
        try:
            volume = segmentation.get_volume(combine_segments=True)
        except RuntimeError as error:
            sheared = None if "overlap" in str(error) else sheared_label_map(segmentation, name)
            if sheared is None:
                raise
            return sheared
        # Axes of highdicom: frames, rows, columns.
        return volume.array.transpose(2, 1, 0), volume.affine[:, [2, 1, 0, 3]]
    except RuntimeError as error:
        if "overlap" in str(error):
            what = "its segments overlap, and a voxel has one label; export them apart, or as a label map"
        else:
            what = "its frames do not lie behind each other at even distances; use another format, such as .nii.gz"
        raise FileError(f"{name}: {what}") from error


def _sources(like: Volume) -> Sequence[Any]:
    """The files of a series without their voxels."""
    import pydicom

    sources = []
    for path in like.slices:
        open_for_reading(path).close()
        sources.append(pydicom.dcmread(path, stop_before_pixels=True))
    shape = {(each.Columns, each.Rows) for each in sources}
    ends = np.array([sources[0].ImagePositionPatient, sources[-1].ImagePositionPatient], dtype=float)
    affine = LPS @ like.affine
    expected = affine[:3, 3] + np.outer([0, len(sources) - 1], affine[:3, 2])
    # What was read may have been cut, turned or resampled since; then its voxels are not those of the series.
    if (*next(iter(shape)), len(sources)) != like.shape or len(shape) > 1 or not np.allclose(ends, expected, atol=0.1):
        raise FileError(f"{one_line(like.slices[0].parent)}: is not the series any more that was read; read it again")
    return sources


def _measures(hd: Any, like: Volume) -> Any:
    """Spacing of the frames, with the distance of neighbours as their thickness, so that one frame has it, too."""
    columns, rows, _ = like.spacing
    affine = like.affine[:3, :3]
    normal = np.cross(affine[:, 0], affine[:, 1])
    between = float(abs(affine[:, 2] @ normal) / np.linalg.norm(normal))
    spacing = [float(f"{each:.10g}") for each in (rows, columns, between)]
    return hd.PixelMeasuresSequence(spacing[:2], spacing[2], spacing[2])


def _segment(hd: Any, number: int, value: int, name: str, term: Term, automatic: bool) -> Any:
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(PROGRAM, codes.cid7162.ArtificialIntelligence, __version__)
    return hd.seg.SegmentDescription(
        segment_number=value,
        segment_label=name.replace("\\", "/")[:MAX_NAME],
        segmented_property_category=_coded(hd, term.category),
        segmented_property_type=_coded(hd, term.type),
        algorithm_type="AUTOMATIC" if automatic else "SEMIAUTOMATIC",
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*colour(number)),
    )


def _coded(hd: Any, code: Code) -> Any:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


@contextmanager
def by_highdicom(name: str, what: str) -> Iterator[None]:
    """A context in which highdicom prints no warnings, and its errors become one line.

    Both may repeat what the file says of the patient, and so are not shown, but for names of elements that are missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FileError as error:
        raise error if name in str(error) else FileError(f"{name}: {error}") from error
    except MemoryError as error:
        raise FileError(f"{name}: too large for this machine's memory; crop or resample it") from error
    except Exception as error:
        missing = isinstance(error, AttributeError | KeyError)
        why = f"; {one_line(error, 100)}" if missing else f" ({type(error).__name__} of highdicom)"
        raise FileError(f"{name}: {what}{why}; export it again, or use another format") from error
