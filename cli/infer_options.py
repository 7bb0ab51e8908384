"""The options of ``deepedit-infer``."""

from pathlib import Path

from deepedit.io.click_files import SPACES
from deepedit.io.suffixes import LABELS_WRITTEN
from deepedit_cli.common import Parser, parser
from deepedit_cli.infer_jobs import FOLDER_ENDING
from deepedit_cli.options import add_reading, add_shared

PROGRAM = "deepedit-infer"
DESCRIPTION = """\
Segment an image, or every image of a folder: automatically; from clicks; or by
correcting an initial segmentation with clicks. Labels are written on the
image's own grid, with the values that they had in the training files.
"""
EXAMPLES = """\
examples:
  deepedit-infer --model run/model.pt --input case.nii.gz --output seg.nii.gz
  deepedit-infer --model run/model.pt --input case.nii.gz --output seg.nii.gz \\
      --click spleen:120,85,40 --click background:90,80,40 --preview seg.png
  deepedit-infer --model run/model.pt --input case.nii.gz --output new.nii.gz \\
      --initial-segmentation seg.nii.gz --clicks case.mrk.json
  deepedit-infer --model run/model.pt --input SERIES --output seg.dcm \\
      --codes dataset.json
  deepedit-infer --model run/model.pt --input imagesTs --output segmentations \\
      --clicks clicks
"""


def command_line() -> Parser:
    made = parser(PROGRAM, DESCRIPTION, EXAMPLES)
    files = made.add_argument_group("input and output")
    add_shared(files, "--model")
    files.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="FILE|FOLDER",
        help="image: NIfTI, NRRD, MetaImage, Analyze or a DICOM series; or a folder of images",
    )
    files.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE|FOLDER",
        help="segmentation, whose ending says in which format; or a folder",
    )
    add_shared(files, "--overwrite")
    files.add_argument(
        "--ending",
        choices=LABELS_WRITTEN,
        help=f"ending, and so the format, of segmentations in a folder (default: {FOLDER_ENDING})",
    )
    files.add_argument(
        "--codes",
        type=Path,
        metavar="FILE",
        help="JSON with coded terms of the labels, for a DICOM SEG; may be a dataset.json",
    )
    files.add_argument(
        "--probabilities", type=Path, metavar="FILE|FOLDER", help="write an image with a channel for each class"
    )
    files.add_argument(
        "--preview", type=Path, metavar="FILE|FOLDER", help="draw three planes with labels and clicks, as PNG"
    )

    reading = made.add_argument_group("reading of images")
    reading.add_argument("--series", metavar="UID", help="which DICOM series, where the input folder holds several")
    add_reading(reading)

    clicks = made.add_argument_group("clicks")
    clicks.add_argument(
        "--click",
        action="append",
        default=[],
        metavar="LABEL:I,J,K",
        help="a click; may be given several times, in order; the label background removes",
    )
    clicks.add_argument(
        "--space",
        choices=SPACES,
        help="space of --click, not of files; ras and lps are in mm (default: voxel)",
    )
    clicks.add_argument(
        "--clicks",
        type=Path,
        metavar="FILE|FOLDER",
        help="clicks to give before those of --click: JSON of this package or MONAI Label, .mrk.json, .fcsv or .csv",
    )
    clicks.add_argument(
        "--save-clicks", type=Path, metavar="FILE|FOLDER", help="write all clicks that were given, as JSON"
    )

    initial = made.add_argument_group("initial segmentation")
    initial.add_argument(
        "--initial-segmentation", type=Path, metavar="FILE|FOLDER", help="segmentation that the clicks correct"
    )
    add_shared(initial, "--map", "--same-grid")

    add_shared(made.add_argument_group("speed and memory"), "--device", "--amp", "--overlap", "--skip-air", "--tta")
    return made
