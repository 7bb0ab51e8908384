"""DICOM series, written by pydicom: one file for each slice, as scanners send them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed, which writes DICOM files")
pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which decodes DICOM files")

from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid  # noqa: E402

LPS = np.diag([-1.0, -1, 1, 1])
PATIENT = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "MRN-4711-0815",
    "PatientBirthDate": "19630221",
    "PatientSex": "F",
    "PatientAddress": "Heidestrasse 17, Koeln",
    "OtherPatientNames": "Gabler^Erika",
    "AccessionNumber": "ACC-99231",
    "ReferringPhysicianName": "Brinkmann^Klaus",
    "InstitutionName": "Schwarzwaldklinik",
    "StudyDescription": "Staging of Erika M.",
    "SeriesDescription": "Abdomen of Erika M.",
    "PatientComments": "neighbour of Doctor Brinkmann",
}
PLACES = {
    "axial": nib.affines.from_matvec(np.diag([-0.8, -0.8, 2.5]), [12, 10, -40]),
    "sagittal": nib.affines.from_matvec([[0, 0, 2], [-1.1, 0, 0], [0, -1.1, 0]], [-20, 15, 30]),
    "oblique": nib.affines.from_matvec(
        np.array([[-0.6, 0.8, 0], [-0.8, -0.6, 0], [0, 0, 1]]) @ np.diag([0.7, 1.1, 2.5]), [5, -40, 12]
    ),
}
"""From column, row and slice to RAS mm. Slices are in the order of their normal."""


def datasets(data, affine, **elements):
    """The files of a series, not written yet.

    Args:
        data: ``[X, Y, Z]`` int16, columns, rows, slices; stored as it is.
        affine: ``[4, 4]``, to RAS mm.
        elements: more elements of all slices, by keyword; a function takes the number of the slice.
    """
    affine = LPS @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shared = {
        **PATIENT,
        "SOPClassUID": CTImageStorage,
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(),
        **{"Modality": "CT", "StudyDate": "20240101", "StudyTime": "101010", "StudyID": "1", "SeriesNumber": 3},
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ImageOrientationPatient": [f"{each:.10g}" for each in (affine[:3, :2] / spacing[:2]).T.ravel()],
        "PixelSpacing": [f"{each:.10g}" for each in spacing[1::-1]],
        "SliceThickness": f"{spacing[2]:.10g}",
        **{"Columns": data.shape[0], "Rows": data.shape[1], "SamplesPerPixel": 1},
        **{"PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": int(data.dtype.kind == "i")},
        **{"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "RescaleSlope": 1, "RescaleIntercept": 0},
    }
    files = []
    for number in range(data.shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        place = affine @ [0, 0, number, 1]
        own = {
            "SOPInstanceUID": generate_uid(),
            "InstanceNumber": number + 1,
            "ImagePositionPatient": [f"{each:.10g}" for each in place[:3]],
        }
        for key, value in (shared | own | elements).items():
            setattr(file, key, value(number) if callable(value) else value)
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = file.SOPClassUID, file.SOPInstanceUID
        file.add_new("PixelData", "OW", np.ascontiguousarray(data[:, :, number].T).tobytes())
        files.append(file)
    return files


def save(folder, files) -> Path:
    """Write the files of a series under names that do not tell their order."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        # Names are a hash of their number in disguise: 7919 is prime, so that no two are equal.
        file.save_as(folder / f"IM{number * 7919 % 10007:05d}", enforce_file_format=True)
    return folder


def save_series(folder, data, affine=PLACES["axial"], **elements) -> Path:
    """Write a series, see `datasets`; returns its folder."""
    return save(folder, datasets(data, affine, **elements))


SHAPE = (7, 6, 5)


def noise(shape=SHAPE, seed=0, dtype=np.int16):
    """An image of noise, in the range of a CT."""
    return np.random.default_rng(seed).integers(0 if dtype == np.uint16 else -1000, 3000, shape).astype(dtype)


def edited(folder, change, of=None):
    """A series of five slices, each changed by a function of its file and number; `of` says which."""
    files = datasets(noise(), PLACES["axial"])
    for number, file in enumerate(files):
        if of is None or number in of:
            change(file, number)
    return save(folder, files)
