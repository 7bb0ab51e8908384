"""A volume knows its grid."""

import numpy as np
import pytest

from deepedit.volume import Volume


def test_an_array_without_an_affine_is_one_millimetre_ras():
    volume = Volume(np.zeros((3, 4, 5)))
    assert volume.shape == (3, 4, 5)
    assert volume.spacing == (1, 1, 1)
    assert volume.channels == 1


def test_spacing_is_the_length_of_a_step_whatever_the_rotation():
    angle = np.radians(30)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([1.5, -2, 3])
    volume = Volume(np.zeros((2, 3, 4, 5)), affine)
    assert volume.spacing == pytest.approx((1.5, 2, 3))
    assert volume.channels == 2
    assert volume.shape == (3, 4, 5)


def test_what_is_no_volume_is_refused():
    with pytest.raises(ValueError, match="axes"):
        Volume(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="4 x 4"):
        Volume(np.zeros((3, 4, 5)), np.eye(3))
