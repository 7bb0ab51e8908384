"""One image in several formats is one image to the network, and gets one answer."""

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose

from deepedit.inference.session import InteractiveSession
from deepedit.io.volumes import read_volume
from deepedit.plan import Intensity, Labels
from deepedit.transforms.preprocess import Preprocessor
from tests.inference.networks import random_model
from tests.io.dicom_files import PLACES, save_series
from tests.io.itk_files import save_itk

SHAPE = (26, 22, 14)
TIE = 1e-3
"""Probabilities of two classes that are so near may be decided in either way: DICOM writes lengths in 16 characters."""


@pytest.fixture(params=PLACES)
def paths(tmp_path, request):
    """The same image as NIfTI, NRRD, MetaImage and DICOM series."""
    affine = PLACES[request.param]
    axes = np.meshgrid(*(np.linspace(0, 9, side) for side in SHAPE), indexing="ij")
    noise = np.random.default_rng(0).normal(0, 60, SHAPE)
    data = (400 * np.sin(axes[0]) * np.cos(axes[1]) + 50 * axes[2] + noise).astype(np.int16)
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "image.nii.gz")
    return [
        tmp_path / "image.nii.gz",
        save_itk(tmp_path / "image.nrrd", data, affine),
        save_itk(tmp_path / "image.mha", data, affine),
        save_series(tmp_path / "series", data, affine),
    ]


@pytest.mark.usefixtures("one_thread")
def test_in_three_orientations_the_network_sees_and_answers_the_same(paths):
    model = random_model(spacing=(1.5, 1.2, 2.0), labels=Labels(("a", "b", "c"), (2, 5, 300)), patch=(12, 12, 12))
    model.plan = type(model.plan)(**{**vars(model.plan), "intensity": Intensity("zscore", 0.5, 99.5)})
    preprocess = Preprocessor(model.plan)
    inputs = [preprocess(read_volume(path))[0].numpy() for path in paths]
    for other in inputs[1:]:
        assert_allclose(other, inputs[0], atol=1e-5)
    results, probabilities = [], []
    for path in paths:
        session = InteractiveSession(model, amp="off")
        session.set_image(path)
        session.predict()
        session.add_click((7, 8, 9), "b")
        results.append(session.predict())
        probabilities.append(np.sort(session.probabilities(), axis=0))
        assert session.notes == []
    clear = np.min([each[-1] - each[-2] for each in probabilities], axis=0) > TIE
    assert clear.mean() > 0.9
    for other in results[1:]:
        assert not (other != results[0])[clear].any()
    assert len(np.unique(results[0])) > 1
