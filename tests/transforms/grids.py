"""Grids to test on: every order and direction of axes, oblique rotations, odd sizes and spacings."""

import itertools

import numpy as np
from hypothesis import strategies as st

AXES = [
    (permutation, signs)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def make_affine(spacing, axes=((0, 1, 2), (1, 1, 1)), rotation=None, origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Voxels to RAS mm: voxel axis ``a`` of spacing ``spacing[a]`` runs along world axis ``permutation[a]``."""
    permutation, signs = axes
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[permutation[axis], axis] = spacing[axis] * signs[axis]
    if rotation is not None:
        affine[:3, :3] = rotation @ affine[:3, :3]
    affine[:3, 3] = origin
    return affine


def from_codes(codes: str, spacing) -> np.ndarray:
    """The affine of axes that run towards the given letters, such as ``"LPS"``."""
    pairs = [("R", "L"), ("A", "P"), ("S", "I")]
    world = [next(axis for axis, pair in enumerate(pairs) if code in pair) for code in codes]
    return make_affine(spacing, (world, [1 if code in "RAS" else -1 for code in codes]), origin=(-20.0, 7.5, 300.0))


def small_rotation(degrees, seed) -> np.ndarray:
    """A rotation about a random axis."""
    axis = np.random.default_rng(seed).normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


axes = st.sampled_from(AXES)
shapes = st.tuples(*[st.integers(1, 9)] * 3)
spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)
affines = st.builds(
    lambda spacing, axes, degrees, seed: make_affine(
        spacing, axes, small_rotation(degrees, seed), origin=(3.0, -50.0, 8.0)
    ),
    spacings,
    axes,
    st.floats(0, 30),
    st.integers(0, 1000),
)
