"""NIfTI files whose header says two things, or says it in other units."""

from pathlib import Path

import nibabel as nib
import numpy as np

SFORM = np.array([[-1.5, 0, 0, 5], [0, 2, 0, -4], [0, 0, 3, 9], [0, 0, 0, 1.0]])
# Of the same voxels, turned by a quarter and elsewhere.
QFORM = np.array([[0, -2, 0, 12], [1.5, 0, 0, 3], [0, 0, 3, -7], [0, 0, 0, 1.0]])


def save_two_forms(
    path: Path,
    data: np.ndarray,
    qform_code: int,
    sform_code: int,
    units: int = 2,
    quaternion_length: float = 1.0,
    forms: tuple[np.ndarray, np.ndarray] = (QFORM, SFORM),
) -> Path:
    """Write an image with both forms, their codes and its units as they are given.

    Args:
        units: 1 metres, 2 mm, 3 microns; lengths are in these units.
        forms: qform and sform, in mm.
        quaternion_length: of the vector part of the quaternion, which is then one of half a turn, relative to 1.
    """
    image = nib.Nifti1Image(data, None)
    header = image.header
    header.set_qform(forms[0], 1)
    header.set_sform(forms[1], 1)
    if quaternion_length != 1:
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = 0, 0, quaternion_length
    per_mm = {1: 1e-3, 2: 1.0, 3: 1e3}[units]
    for key in ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[key] = header[key] * per_mm
    header["pixdim"][1:4] *= per_mm
    header["xyzt_units"] = units
    header["qform_code"], header["sform_code"] = qform_code, sform_code
    content = header.copy()
    content["magic"], content["vox_offset"] = content.single_magic, 352
    content["scl_slope"], content["scl_inter"] = 1, 0
    path.write_bytes(content.binaryblock + bytes(4) + data.tobytes(order="F"))
    return path
