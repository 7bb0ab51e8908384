"""Files to read: made by nibabel, so that the readers are held against another hand's writing."""

import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepedit.errors import DatasetError
from deepedit.io.msd import find_dataset

# Byte offsets and formats of NIfTI-1 header fields, to damage one at a time.
FIELDS = {
    "sizeof_hdr": (0, "<i"),
    "dim": (40, "<8h"),
    "datatype": (70, "<h"),
    "bitpix": (72, "<h"),
    "pixdim": (76, "<8f"),
    "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"),
    "scl_inter": (116, "<f"),
    "qform_code": (252, "<h"),
    "sform_code": (254, "<h"),
    "quatern_b": (256, "<f"),
    "srow_x": (280, "<4f"),
    "magic": (344, "<4s"),
}


@pytest.fixture
def save(tmp_path):
    """Save an array as NIfTI with nibabel; returns the path."""

    def save(data, affine=None, name="image.nii.gz", folder=tmp_path, **options) -> Path:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.asarray(data), np.eye(4) if affine is None else affine, **options), path)
        return path

    return save


@pytest.fixture
def damaged(save):
    """An uncompressed int16 image of 4 x 5 x 6 voxels, a field of whose header was overwritten."""

    def damaged(field: str, *values) -> Path:
        path = save(np.arange(120, dtype=np.int16).reshape(4, 5, 6), name=f"{field}.nii")
        content = bytearray(path.read_bytes())
        offset, form = FIELDS[field]
        struct.pack_into(form, content, offset, *values)
        path.write_bytes(content)
        return path

    return damaged


@pytest.fixture
def dataset(tmp_path, save):
    """Write a dataset of small cases; returns its folder."""

    def dataset(images=("a.nii.gz", "b.nii.gz"), labels=("a.nii.gz", "b.nii.gz"), values=(1, 2), description=None):
        folder = tmp_path / "data"
        for name in images:
            save(np.arange(120, dtype=np.float32).reshape(4, 5, 6), name=name, folder=folder / "imagesTr")
        for name in labels:
            content = np.zeros((4, 5, 6), np.int16)
            content.flat[: len(values)] = values
            save(content, name=name, folder=folder / "labelsTr")
        if description is not None:
            text = description if isinstance(description, str) else json.dumps(description)
            (folder / "dataset.json").write_text(text)
        return folder

    return dataset


def problems(folder, labels=None):
    """The lines of the error that the folder's check ends in, its summary left out."""
    with pytest.raises(DatasetError) as caught:
        find_dataset(folder, labels)
    summary, *lines = str(caught.value).split("\n")
    assert summary.startswith(str(folder))
    return [line.strip() for line in lines]


MSD = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "tumor"}}
