"""Pictures are held to what can be seen in them: where colours are, and how large things come out."""

import numpy as np
import pytest

from deepedit.colours import PALETTE, colour
from deepedit.inference.preview import overlay, preview
from deepedit.io.click_files import PointClick
from deepedit.plan import Labels
from deepedit.volume import Volume

LABELS = Labels(("liver", "spleen"), (1, 6))


def reddish(picture, label):
    """Pixels in the pure colour of a label's contour or marker."""
    return np.abs(picture.astype(int) - colour(label)).max(axis=-1) < 30


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(100, 5, (40, 30, 20)).astype(np.float32)


def test_a_row_a_segmentation_with_three_planes_of_uint8(image):
    one = overlay(image, [np.zeros(image.shape, int)])
    two = overlay(image, [np.zeros(image.shape, int)] * 2)
    assert one.dtype == np.uint8
    assert one.ndim == 3
    assert one.shape[2] == 3
    assert two.shape[1] == one.shape[1]
    assert two.shape[0] > 1.8 * one.shape[0]


def test_millimetres_have_one_length_whatever_the_voxels(image):
    fine = overlay(image, [np.zeros(image.shape, int)], spacing=(1, 1, 1))
    stretched = overlay(image[:, :, ::4], [np.zeros((40, 30, 5), int)], spacing=(1, 1, 4))
    assert stretched.shape == fine.shape


def test_labels_are_outlined_in_their_colours(image):
    segmentation = np.zeros(image.shape, int)
    segmentation[5:20, 5:25, 4:16] = 1
    segmentation[25:35, 5:25, 4:16] = 2
    picture = overlay(image, [segmentation])
    empty = overlay(image, [np.zeros(image.shape, int)])
    for label in (1, 2):
        assert reddish(picture, label).sum() > 100
        assert not reddish(empty, label).any()


def test_the_legend_names_the_labels_that_are_there(image):
    segmentation = np.zeros(image.shape, int)
    plain = overlay(image, [segmentation], names=LABELS.names)
    segmentation[5:20, 5:25, 4:16] = 2
    named = overlay(image, [segmentation], names=LABELS.names)
    assert named.shape[0] > plain.shape[0]
    legend = named[plain.shape[0] :]
    assert reddish(legend, 2).any()
    assert not reddish(legend, 1).any()


def test_planes_go_through_the_last_click(image):
    image[:] = 0
    image[30, :, :] = image[:, 6, :] = image[:, :, 15] = 100
    nothing = np.zeros(image.shape, int)
    through = overlay(image, [nothing], clicks=[((1, 1, 1), 1), ((30, 6, 15), 1)], window=(0, 100))
    beside = overlay(image, [nothing], clicks=[((30, 6, 15), 1), ((1, 1, 1), 1)], window=(0, 100))
    assert (through > 200).mean() > 0.4 > 0.3 > (beside > 200).mean()


def test_the_patients_right_is_on_the_left_and_anterior_and_superior_are_up():
    image = np.zeros((40, 40, 40), np.float32)
    segmentation = np.zeros(image.shape, int)
    segmentation[32:38, 30:36, 28:34] = 1  # right, anterior, superior
    picture = overlay(image, [segmentation])
    rows, columns = np.nonzero(reddish(picture, 1))
    assert rows.max() < picture.shape[0] / 2
    width = picture.shape[1] / 3
    for plane in range(3):
        mine = columns[(columns >= plane * width) & (columns < (plane + 1) * width)] - plane * width
        assert len(mine)
        assert mine.max() < width / 2


@pytest.mark.parametrize("flat", [0.0, -1000.0])
def test_constant_images_and_single_voxels_have_pictures_too(flat):
    overlay(np.full((5, 4, 3), flat), [np.zeros((5, 4, 3), int)])
    overlay(np.full((1, 1, 1), flat), [np.ones((1, 1, 1), int)], [((0, 0, 0), 0)])


def test_a_result_is_shown_alike_however_its_file_is_stored():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20, 24, 16)).astype(np.float32)
    result = np.zeros(data.shape, np.uint8)
    result[4:10, 6:18, 3:12] = 6
    ras = preview(Volume(data), result, [PointClick("spleen", (6, 10, 5), "voxel")], LABELS)
    # Stored as P, S, L: the first axis runs to the back, the second up, the third to the left.
    affine = np.array([[0, 0, -1.0, 19], [-1, 0, 0, 23], [0, 1, 0, 0], [0, 0, 0, 1]])
    turned, turned_result = (each.transpose(1, 2, 0)[::-1, :, ::-1] for each in (data, result))
    click = PointClick("spleen", (-6, -10, 5), "lps")
    np.testing.assert_array_equal(preview(Volume(turned, affine), turned_result, [click], LABELS), ras)


def test_of_several_channels_the_first_is_shown():
    data = np.random.default_rng(0).normal(size=(3, 12, 10, 8)).astype(np.float32)
    result = np.zeros((12, 10, 8), np.uint8)
    np.testing.assert_array_equal(
        preview(Volume(data), result, [], LABELS), preview(Volume(data[0]), result, [], LABELS)
    )


def test_colours_of_many_labels_differ():
    colours = [colour(label) for label in range(60)]
    assert len(set(colours)) == 60
    assert colours[1] == PALETTE[0]
