"""A click reaches the voxel that is drawn where it was made, however the image is stored, in every plane."""

import nibabel as nib
import numpy as np
import pytest

from tests.server.live import GRIDS, model_that_obeys, named, serving
from tests.server.page.browser import PLANES, bright_spot, differing, opened

ANISOTROPIC = {"1 x 1 x 5 mm": np.diag([1.0, 1.0, 5.0]), "5 x 1 x 1 mm, LPS": np.diag([-5.0, -1.0, 1.0])}
STORED = GRIDS | ANISOTROPIC
SPOTS = ((4, 9, 2), (11, 4, 4), (7, 5, 1))
"""Voxels of the files, one to click in each plane; none is in the middle, and no two share a slice of an axis."""
SHAPE = (16, 14, 6)


def affine_of(stored: str) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = STORED[stored], (-12.5, 30, 7)
    return affine


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("where")
    studies = folder / "studies"
    studies.mkdir()
    data = np.zeros(SHAPE, np.float32)
    data[tuple(np.transpose(SPOTS))] = 2
    for stored in STORED:
        nib.save(nib.Nifti1Image(data, affine_of(stored)), studies / f"{stored}.nii.gz")
    with serving(named(model_that_obeys(), folder), studies) as live:
        yield live


def shown_at(stored: str, voxel: tuple[int, int, int]) -> list[int]:
    """The voxel in nibabel's order of axes that is closest to R, A and S."""
    data = np.zeros(SHAPE, np.uint8)
    data[voxel] = 1
    turned = nib.as_closest_canonical(nib.Nifti1Image(data, affine_of(stored)))
    return np.argwhere(np.asarray(turned.dataobj))[0].tolist()


@pytest.mark.parametrize("stored", STORED)
def test_a_click_reaches_the_voxel_that_is_drawn_there(browser, server, stored):
    with opened(browser, server.url) as tab:
        tab.choose("Case", stored).press("x", "h", "1")
        for number, (plane, normal) in enumerate(zip(PLANES, (2, 1, 0), strict=True)):
            voxel = SPOTS[number]
            tab.scroll_to(plane, shown_at(stored, voxel)[normal])
            spot = bright_spot(tab.picture(plane))
            tab.press("h")
            before = tab.picture(plane)
            tab.click(plane, spot)
            tab.settle()
            assert tab.clicks[-1] == ["left", list(voxel)]
            assert len(tab.clicks) == number + 1
            changed = differing(before, tab.picture(plane))
            farthest = np.abs(changed - spot).max(axis=0)
            # The network changes what lies within two voxels; an outline lies within a voxel of its border.
            pixels = pixels_a_voxel(tab, plane, stored, normal)
            assert (farthest <= 3.5 * pixels + 8).all()
            assert np.abs(changed - spot).max(axis=1).min() <= 2, "the clicked voxel itself changed"
            assert_told(tab, stored, voxel)
            tab.press("h")


def pixels_a_voxel(tab, plane: str, stored: str, normal: int) -> np.ndarray:
    """At least: the volume fits into each plane, so that the longest side is what the planes are scaled by."""
    turned = nib.as_closest_canonical(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine_of(stored)))
    spacing, sides = np.array(turned.header.get_zooms()), np.multiply(turned.shape, turned.header.get_zooms())
    boxes = [tab.canvas(each).bounding_box() for each in PLANES]
    scale = min(
        min((box["width"] - 16) / sides[across], (box["height"] - 16) / sides[down])
        for box, (across, down) in zip(boxes, ((0, 1), (0, 2), (1, 2)), strict=True)
    )
    return scale * np.delete(spacing, normal)


def assert_told(tab, stored: str, voxel: tuple[int, int, int]) -> None:
    """The page says where the crosshair is: in mm, and as a voxel of the file."""
    words = tab.page.locator("#readout").inner_text()
    assert f"voxel {', '.join(map(str, voxel))}" in words
    for value, letters in zip(nib.affines.apply_affine(affine_of(stored), voxel), ("LR", "PA", "IS"), strict=True):
        assert f"{letters[int(value >= 0)]} {abs(value):.1f}" in words


def test_true_proportions(browser, server):
    """A voxel of 1 x 1 x 5 mm is drawn five times as high as wide."""
    with opened(browser, server.url) as tab:
        tab.choose("Case", "1 x 1 x 5 mm").press("x", "h")
        tab.scroll_to("Coronal", SPOTS[0][1])
        rows, columns = np.nonzero(tab.picture("Coronal").min(axis=2) > 200)
        inner = np.abs(columns - np.median(columns)) < 100
        assert np.ptp(rows[inner]) > 2.5 * np.ptp(columns[inner])
