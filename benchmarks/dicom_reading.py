"""A DICOM series read with all checks, beside SimpleITK, which finds its files and reads them without most of these.

    python -m benchmarks.dicom_reading --size 512 --slices 300

The series is written first, uncompressed, 16 bits a voxel. Both are read in turns.
"""

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from benchmarks.options import add_shared, parser
from benchmarks.timing import timed
from deepedit.io.volumes import read_volume
from deepedit_cli.options import positive_int


def write_series(folder: Path, size: int, slices: int) -> None:
    """Slices of noise, 2.5 mm apart, whose names do not tell their order."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    noise = np.random.default_rng(0).integers(-1000, 3000, (size, size)).astype(np.int16)
    for number in range(slices):
        image = sitk.GetImageFromArray(noise[None] + np.int16(number))
        for key, value in {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.826.0.1.3680043.8.498.2.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.8.498.1",
            "0020|000e": "1.2.826.0.1.3680043.8.498.2",
            "0020|0032": f"0\\0\\{2.5 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number * 7919 % 10007:05d}.dcm"))
        writer.Execute(image)


def by_simpleitk(folder: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--size",
        type=positive_int,
        default=512,
        metavar="VOXELS",
        help="of a slice along both axes (default: %(default)s)",
    )
    options.add_argument(
        "--slices", type=positive_int, default=300, metavar="N", help="slices of the series (default: %(default)s)"
    )
    add_shared(options, "--repeats", default=9)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder, given.size, given.slices)
        assert np.array_equal(read_volume(folder).data.T, by_simpleitk(folder))
        times: dict[str, list[float]] = {"ours": [], "SimpleITK": []}
        for _ in range(given.repeats):
            times["ours"] += timed(lambda: read_volume(folder), "cpu", 1, 0, warm_ups=0)
            times["SimpleITK"] += timed(lambda: by_simpleitk(folder), "cpu", 1, 0, warm_ups=0)
    ours, theirs = (sorted(times[key]) for key in ("ours", "SimpleITK"))
    print(f"{given.size} x {given.size} x {given.slices}, median of {given.repeats} (spread), read in turns")
    for called, seconds in (("ours", ours), (f"SimpleITK {sitk.Version.VersionString()}", theirs)):
        print(f"{called:16} {np.median(seconds):.2f} s ({seconds[0]:.2f}-{seconds[-1]:.2f})")
    print(f"ratio            {np.median(ours) / np.median(theirs):.2f}")


if __name__ == "__main__":
    main()
