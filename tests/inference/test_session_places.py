"""Where a click acts, however the file is stored."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.inference.session import InteractiveSession
from deepedit.volume import Volume
from tests.inference.conftest import ball, box_of
from tests.obedient import obedient_model

ROTATION = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1.0]]) @ np.array(
    [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
)
LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def stored_as(code, data):
    """RAS data as a file stored in another orientation has it, with the map from its voxels to those of `data`."""
    axes, signs = zip(*(LETTERS[letter] for letter in code), strict=True)
    turned = data.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for native, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[axis, native] = sign
        matrix[axis, 3] = 0 if sign > 0 else data.shape[axis] - 1
    return turned, matrix


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("space", ["voxel", "ras", "lps"])
@pytest.mark.parametrize("code", ["RAS", "LPS", "LAS", "PIR", "SRA", "ILP"])
def test_a_click_acts_where_it_was_placed_however_the_file_is_stored(code, space, oblique):
    predicted = np.zeros((15, 12, 17), np.uint8)
    predicted[2:6, 3:10, 4:12] = 1
    expected = predicted.copy()
    expected[ball(predicted.shape, (12, 4, 13), 2)] = 2
    world = np.eye(4)
    world[:3, 3] = (-31.5, 17.25, 5)
    if oblique:
        world[:3, :3] = ROTATION
    image, to_ras_voxel = stored_as(code, predicted)
    affine = world @ to_ras_voxel
    voxel = (np.linalg.inv(to_ras_voxel) @ (12, 4, 13, 1))[:3]
    point = (affine @ (*voxel, 1))[:3]
    position = {"voxel": voxel, "ras": point, "lps": point * (-1, -1, 1)}[space]

    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(Volume(image, affine))
    before = session.predict()
    changed = session.add_click(position, "right", space)

    assert_array_equal(before, stored_as(code, predicted)[0])
    assert_array_equal(session.predict(), stored_as(code, expected)[0])
    assert changed == box_of(session.predict() != before)


def test_between_grids_a_click_takes_the_voxel_that_holds_it():
    image = np.zeros((20, 20, 8), np.uint8)
    session = InteractiveSession(obedient_model(radius=2), amp="off")
    session.set_image(image, np.diag([-0.7, 0.9, 3.0, 1]))
    session.add_click((15, 4, 6), "left")
    result = session.predict()
    assert result[15, 4, 6] == 1
    far = ~ball(image.shape, (15, 4, 6), 6)
    assert not result[far].any()
