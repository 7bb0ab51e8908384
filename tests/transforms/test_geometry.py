import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from deepedit.errors import FileError
from deepedit.transforms.geometry import (
    closest_canonical,
    fixed_grid,
    inside,
    network_grid,
    to_voxel,
    voxel_to_network,
)
from tests.transforms.grids import AXES, affines, from_codes, make_affine, shapes, small_rotation, spacings

quick = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def one_hot(labels, num_classes):
    return torch.nn.functional.one_hot(labels.long(), num_classes).movedim(-1, 0).float()


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# Orientation


@pytest.mark.skipif(
    tuple(map(int, nib.__version__.split(".")[:2])) < (5, 4),
    reason="before nibabel 5.4 the first voxel axis chose first, not the one that lies closest to a world axis",
)
@given(matrix=st.lists(st.floats(-3, 3), min_size=9, max_size=9), seed=seeds)
@settings(max_examples=300, deadline=None)
def test_axes_are_ordered_as_nibabel_orders_them(matrix, seed):
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(matrix, (3, 3)) + np.random.default_rng(seed).normal(size=(3, 3))
    expected = nib.io_orientation(affine)
    permutation, flips = closest_canonical(affine)
    for world, (axis, flip) in enumerate(zip(permutation, flips, strict=True)):
        assert_array_equal(expected[axis], [world, -1 if flip else 1])


@pytest.mark.parametrize("degrees", [45.0, 90.0, 135.0])
def test_a_tie_between_axes_still_gives_a_permutation(degrees):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    permutation, _ = closest_canonical(make_affine((1, 1, 1), rotation=turn))
    assert sorted(permutation) == [0, 1, 2]


def test_an_oblique_rotation_stays_in_the_affine():
    affine = make_affine((1, 1, 2), rotation=small_rotation(20, seed=1))
    grid = network_grid((8, 9, 10), affine, (1, 1, 2))
    assert_allclose(grid.network_affine(affine), affine)


@pytest.mark.parametrize("broken", [np.diag([1.0, 0, 1, 1]), np.diag([1.0, np.nan, 1, 1]), np.ones((4, 4))])
def test_an_affine_without_inverse_is_refused(broken):
    with pytest.raises(FileError, match="affine"):
        network_grid((4, 4, 4), broken, (1, 1, 1))


@given(shape=shapes, affine=affines)
@quick
def test_reordering_equals_nibabel(shape, affine):
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    grid = fixed_grid(shape, affine, canonical.shape)
    assert_array_equal(grid.image_to_network(torch.from_numpy(data)[None])[0], np.asarray(canonical.dataobj))
    assert_allclose(grid.network_affine(affine), canonical.affine, atol=1e-9)


# The resampled grid


@given(shape=shapes, affine=affines, spacing=spacings)
@quick
def test_field_of_view_and_spacing_are_kept(shape, affine, spacing):
    grid = network_grid(shape, affine, spacing)
    corners = np.array([[-0.5] * 3, np.array(grid.network_shape) - 0.5])
    assert_allclose(np.sort(grid.points_to_native(corners), axis=0), [[-0.5] * 3, np.array(shape) - 0.5], atol=1e-9)
    extent = np.linalg.norm(grid.network_affine(affine)[:3, :3], axis=0) * grid.network_shape
    assert (np.abs(extent / spacing - grid.network_shape) <= np.maximum(0.5, 1 - extent / spacing) + 1e-6).all()


def test_a_spacing_within_a_thousandth_is_left_alone():
    grid = network_grid((2000, 2000, 2000), make_affine((0.9995, 1.0, 1.0005)), (1, 1, 1))
    assert grid.scale == (1, 1, 1)
    assert grid.offset == (0, 0, 0)


def test_spacing_must_be_positive():
    with pytest.raises(ValueError, match="spacing"):
        network_grid((4, 4, 4), np.eye(4), (1, 0, 1))


# Points


@given(shape=shapes, affine=affines, spacing=spacings, start=st.tuples(*[st.integers(-4, 4)] * 3), seed=seeds)
@quick
def test_points_return_to_where_they_were(shape, affine, spacing, start, seed):
    grid = network_grid(shape, affine, spacing).window(start, (3, 4, 5))
    points = np.random.default_rng(seed).uniform(-1, 1, (20, 3)) * shape
    assert_allclose(grid.points_to_native(grid.points_to_network(points)), points, atol=1e-9)


@given(shape=shapes, affine=affines, spacing=spacings, seed=seeds)
@quick
def test_the_matrix_and_the_affine_say_what_the_points_do(shape, affine, spacing, seed):
    grid = network_grid(shape, affine, spacing).window((1, -2, 0), (4, 4, 4))
    points = np.random.default_rng(seed).uniform(-5, 5, (20, 3))
    native = grid.points_to_native(points)
    assert_allclose(points @ grid.matrix[:3, :3].T + grid.matrix[:3, 3], native, atol=1e-9)
    world = native @ affine[:3, :3].T + affine[:3, 3]
    ours = grid.network_affine(affine)
    assert_allclose(points @ ours[:3, :3].T + ours[:3, 3], world, atol=1e-8)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SAL", "IPR"])
@pytest.mark.parametrize("target", [(1, 1, 1), (0.6, 1.1, 2.5), (2, 0.9, 1)])
def test_a_spot_in_the_array_lands_where_the_points_say(codes, target):
    shape, voxel = (18, 21, 15), np.array([4, 15, 9])
    grid = network_grid(shape, from_codes(codes, (1.0, 0.8, 2.0)), target)
    image = torch.zeros(1, *shape)
    image[0, 3:6, 14:17, 8:11] = 1
    spot = grid.image_to_network(image)[0].numpy()
    assert np.abs(np.array(ndimage.center_of_mass(spot)) - grid.points_to_network(voxel)).max() < 0.1
    assert spot[tuple(voxel_to_network(voxel, grid))] >= spot.max() - 1e-6


# Images


@given(shape=shapes, affine=affines, spacing=spacings, start=st.tuples(*[st.integers(-3, 3)] * 3), seed=seeds)
@quick
def test_back_to_native_is_linear_interpolation(shape, affine, spacing, start, seed):
    grid = network_grid(shape, affine, spacing).window(start, (5, 3, 4))
    tensor = np.random.default_rng(seed).normal(size=(2, *grid.network_shape)).astype(np.float32)
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    where = grid.points_to_network(voxels.reshape(-1, 3))
    expected = [ndimage.map_coordinates(each, where.T, order=1, mode="nearest") for each in tensor]
    outside = (where < -0.5 - 1e-6) | (where > np.array(grid.network_shape) - 0.5 + 1e-6)
    expected = np.where(outside.any(1), -7, expected).reshape(2, *shape)
    assert_allclose(grid.to_native(torch.from_numpy(tensor), fill=-7), expected, atol=1e-5)


def box_mean(values, centres, width, axis):
    """Mean of the piecewise constant function `values` over boxes, from its integral; edges extend outwards."""
    values = np.moveaxis(np.pad(values, [(9, 9) if dim == axis else (0, 0) for dim in range(3)], "edge"), axis, -1)
    integral = np.concatenate([np.zeros((*values.shape[:-1], 1)), values.cumsum(-1)], axis=-1)
    edges = np.arange(values.shape[-1] + 1) - 9.5
    mean = [
        (np.interp(centres + width / 2, edges, row) - np.interp(centres - width / 2, edges, row)) / width
        for row in integral.reshape(-1, integral.shape[-1])
    ]
    return np.moveaxis(np.reshape(mean, (*values.shape[:-1], len(centres))), -1, axis)


@given(shape=shapes, spacing=st.tuples(*[st.floats(0.4, 3.5)] * 3), seed=seeds)
@quick
def test_to_network_is_the_mean_over_the_voxels_extent_when_coarser_and_linear_when_finer(shape, spacing, seed):
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    grid = network_grid(shape, np.eye(4), spacing)
    expected = image.astype(np.float64)
    for axis, (scale, offset, size) in enumerate(zip(grid.scale, grid.offset, grid.network_shape, strict=True)):
        expected = box_mean(expected, scale * np.arange(size) + offset, max(scale, 1), axis)
    assert_allclose(grid.image_to_network(torch.from_numpy(image)[None])[0], expected, atol=1e-5)


def test_fine_texture_does_not_alias():
    stripes = torch.ones(1, 60, 1, 1)
    stripes[:, ::2] = -1
    coarse = network_grid((60, 1, 1), np.eye(4), (2.2, 1, 1)).image_to_network(stripes)
    assert coarse.abs().max() < 0.15


@given(shape=shapes, network_shape=shapes, seed=seeds)
@quick
def test_area_mode_is_adaptive_average_pooling(shape, network_shape, seed):
    image = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32))
    expected = torch.nn.functional.adaptive_avg_pool3d(image, network_shape)
    ours = fixed_grid(shape, np.eye(4), network_shape).image_to_network(image, mode="area")
    assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.float32, torch.float64, torch.bool])
def test_an_unchanged_axis_is_copied_bit_for_bit(dtype):
    image = (torch.rand(2, 5, 6, 7, generator=torch.Generator().manual_seed(0)) * 200 - 100).to(dtype)
    grid = network_grid((5, 6, 7), from_codes("PIR", (1, 1, 1)), (1, 1, 1))
    network = grid.image_to_network(image)
    assert network.dtype == torch.float32
    assert network.is_contiguous()
    assert torch.equal(grid.to_native(network), image.float())


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_layout_in_memory_does_not_matter(order):
    rng = np.random.default_rng(0)
    image, labels = rng.normal(size=(9, 30, 12)).astype(np.float32), rng.integers(0, 3, (9, 30, 12))
    grid = network_grid(image.shape, from_codes("LIP", (1, 1, 1)), (1.3, 0.7, 2))
    laid = [torch.from_numpy(np.array(each, order=order)) for each in (image, labels)]
    assert torch.equal(grid.image_to_network(laid[0][None]), grid.image_to_network(torch.from_numpy(image)[None]))
    assert torch.equal(grid.labels_to_network(laid[1], 3), grid.labels_to_network(torch.from_numpy(labels), 3))


def test_shapes_and_modes_that_do_not_fit_are_refused():
    grid = fixed_grid((4, 5, 6), np.eye(4), (2, 2, 2))
    with pytest.raises(ValueError, match=r"\(4, 5, 6\)"):
        grid.image_to_network(torch.zeros(1, 6, 5, 4))
    with pytest.raises(ValueError, match=r"\(2, 2, 2\)"):
        grid.labels_to_native(torch.zeros(2, 4, 5, 6))
    with pytest.raises(ValueError, match="mode"):
        grid.image_to_network(torch.zeros(1, 4, 5, 6), mode="cubic")
    with pytest.raises(ValueError, match="mode"):
        grid.labels_to_network(torch.zeros(4, 5, 6, dtype=torch.uint8), 2, mode="cubic")


# Labels


@pytest.mark.parametrize("axes", AXES)
def test_labels_survive_a_grid_of_the_same_spacing_in_every_orientation(axes):
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (5, 6, 7), dtype=np.uint8))
    target = np.array([1.0, 0.5, 3.0])
    grid = network_grid((5, 6, 7), make_affine(target[list(axes[0])], axes), target)
    network = grid.labels_to_network(labels, 5)
    assert network.dtype == torch.uint8
    assert torch.equal(grid.labels_to_native(one_hot(network, 5)), labels)


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (0.7, 0.9, 0.33), (0.95, 0.62, 0.8)])
def test_a_structure_of_ten_voxels_survives_a_finer_grid(spacing):
    voxels = np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"))
    ball = ((voxels - 11.7) ** 2).sum(0) < 5**2
    grid = network_grid(ball.shape, np.eye(4), spacing)
    network = grid.labels_to_network(torch.from_numpy(ball.astype(np.uint8)), 2)
    assert dice(grid.labels_to_native(one_hot(network, 2)).numpy() == 1, ball) >= 0.99


def lowest_of_largest(values, tolerance):
    return np.argmax(values >= values.max(axis=0) - tolerance, axis=0)


@given(shape=shapes, affine=affines, spacing=spacings, start=st.tuples(*[st.integers(-3, 3)] * 3), seed=seeds)
@quick
def test_labels_to_network_equals_interpolating_each_class(shape, affine, spacing, start, seed):
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, shape))
    grid = network_grid(shape, affine, spacing).window(start, (4, 5, 3))
    shares = grid.image_to_network(one_hot(labels, 4)).numpy()
    assert_array_equal(grid.labels_to_network(labels, 4), lowest_of_largest(shares, 1e-6))


@given(shape=shapes, affine=affines, spacing=spacings, smooth=st.booleans(), classes=st.integers(1, 5), seed=seeds)
@quick
def test_labels_to_native_equals_interpolating_each_class(shape, affine, spacing, smooth, classes, seed):
    grid = network_grid(shape, affine, spacing)
    logits = np.random.default_rng(seed).normal(size=(classes, *grid.network_shape)).astype(np.float32)
    if smooth:
        logits = ndimage.gaussian_filter(logits, (0, 3, 3, 3))
    values = grid.to_native(torch.from_numpy(logits)).numpy()
    decided = grid.labels_to_native(torch.from_numpy(logits)).numpy()
    chosen = np.take_along_axis(values, decided[None].astype(np.int64), axis=0)
    assert_allclose(chosen[0], values.max(axis=0), atol=1e-6)


def test_a_tie_goes_to_the_lowest_class_and_outside_is_background():
    grid = network_grid((6, 1, 1), np.eye(4), (1, 1, 1)).window((2, 0, 0), (2, 1, 1))
    logits = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]).view(3, 2, 1, 1)
    assert grid.labels_to_native(logits).flatten().tolist() == [0, 0, 1, 1, 0, 0]


def test_nearest_labels_take_the_voxel_that_contains_the_centre():
    labels = torch.tensor([1, 2, 3, 4, 5, 6], dtype=torch.uint8).view(6, 1, 1)
    grid = fixed_grid((6, 1, 1), np.eye(4), (2, 1, 1))
    assert grid.labels_to_network(labels, 7, mode="nearest").flatten().tolist() == [2, 5]


def test_many_classes_need_a_wider_type():
    labels = torch.arange(400).view(400, 1, 1)
    grid = network_grid((400, 1, 1), np.eye(4), (0.5, 1, 1))
    assert torch.equal(grid.labels_to_network(labels, 400)[::2], labels.to(torch.int16))


# Windows


@given(shape=shapes, affine=affines, spacing=spacings, start=st.tuples(*[st.integers(-4, 8)] * 3), seed=seeds)
@quick
def test_a_window_is_a_slice_of_the_padded_whole(shape, affine, spacing, start, seed):
    image = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32))
    whole = network_grid(shape, affine, spacing)
    window = whole.window(start, (5, 6, 4))
    pad = 64
    padded = np.pad(whole.image_to_network(image)[0], pad, constant_values=-3)
    expected = padded[tuple(slice(pad + i, pad + i + n) for i, n in zip(start, (5, 6, 4), strict=True))]
    assert_allclose(window.image_to_network(image, fill=-3)[0], expected, atol=1e-5)


# Clicks


def test_world_positions_become_voxels():
    affine = from_codes("PIR", (0.7, 2.0, 1.1))
    voxel = np.array([3.0, 5.5, 7.25])
    ras = affine[:3, :3] @ voxel + affine[:3, 3]
    assert_allclose(to_voxel(voxel, "voxel", affine), voxel)
    assert_allclose(to_voxel(ras, "ras", affine), voxel)
    assert_allclose(to_voxel(ras * (-1, -1, 1), "lps", affine), voxel)
    with pytest.raises(ValueError, match="space"):
        to_voxel(voxel, "mni", affine)


def test_halves_round_up_and_never_to_even():
    grid = network_grid((9, 9, 9), np.eye(4), (1, 1, 1))
    assert voxel_to_network((0.5, 1.5, 2.5), grid).tolist() == [1, 2, 3]
    assert voxel_to_network((-0.5, 8.49, 3), grid).tolist() == [0, 8, 3]


@given(shape=shapes, affine=affines, spacing=spacings, seed=seeds)
@quick
def test_every_voxel_of_the_image_has_one_on_the_network_grid_within_half_a_voxel(shape, affine, spacing, seed):
    grid = network_grid(shape, affine, spacing)
    voxel = np.random.default_rng(seed).integers(0, shape)
    network = voxel_to_network(voxel, grid)
    assert inside(network, grid.network_shape)
    assert np.abs(network - grid.points_to_network(voxel)).max() <= 0.5 + 1e-6


def test_a_click_outside_of_a_window_is_not_moved_into_it():
    grid = network_grid((9, 9, 9), np.eye(4), (1, 1, 1)).window((4, 4, 4), (3, 3, 3))
    assert voxel_to_network((2, 5, 8), grid).tolist() == [-2, 1, 4]


def test_inside_counts_whole_voxels():
    assert inside((-0.5, 0, 3.49), (1, 1, 4))
    assert not inside((-0.51, 0, 0), (1, 1, 4))
    assert not inside((0, 0, 3.5), (1, 1, 4))


@given(shape=shapes, network_shape=shapes, seed=seeds)
@quick
def test_truncated_clicks_are_scaled_by_the_ratio_of_the_shapes(shape, network_shape, seed):
    grid = fixed_grid(shape, np.eye(4), network_shape)
    voxel = np.random.default_rng(seed).integers(0, shape)
    assert_array_equal(voxel_to_network(voxel, grid, rounding="truncate"), voxel * network_shape // np.array(shape))
