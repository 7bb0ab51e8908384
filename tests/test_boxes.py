import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.boxes import bounding_box, grown, overlap, within

SHAPES = st.tuples(*[st.integers(1, 6)] * 3)


@st.composite
def boxes(draw, shape):
    starts = [draw(st.integers(0, size - 1)) for size in shape]
    return tuple(slice(a, draw(st.integers(a + 1, size))) for a, size in zip(starts, shape, strict=True))


@given(SHAPES, st.sampled_from([0, 0.02, 0.1, 0.5, 1]), st.integers(0, 2**32 - 1))
def test_the_bounding_box_ends_at_the_first_and_last_voxels_of_the_mask(shape, density, seed):
    mask = np.random.default_rng(seed).random(shape) < density
    voxels = np.argwhere(mask)
    box = bounding_box(mask)
    if len(voxels):
        assert [span.start for span in box] == voxels.min(0).tolist()
        assert [span.stop for span in box] == (voxels.max(0) + 1).tolist()
    else:
        assert box is None


@given(st.data(), SHAPES, st.integers(0, 3))
def test_a_grown_box_holds_what_is_at_most_a_margin_away(data, shape, margin):
    box = data.draw(boxes(shape))
    near = [
        (np.arange(size) >= span.start - margin) & (np.arange(size) < span.stop + margin)
        for size, span in zip(shape, box, strict=True)
    ]
    mask = np.zeros(shape, bool)
    mask[grown(box, margin, shape)] = True
    assert_array_equal(mask, near[0][:, None, None] & near[1][:, None] & near[2])


@given(st.data(), SHAPES)
def test_a_box_within_a_box_cuts_what_two_cuts_would(data, shape):
    volume = np.arange(np.prod(shape)).reshape(shape)
    outer = data.draw(boxes(shape))
    inner = data.draw(boxes(volume[outer].shape))
    assert_array_equal(volume[within(outer, inner)], volume[outer][inner])


@given(st.tuples(*[st.integers(-9, 9)] * 3), SHAPES, SHAPES)
@settings(max_examples=300)
def test_the_overlap_holds_each_voxel_of_both_at_its_place_in_each(start, window, shape):
    in_volume, in_window = overlap(start, window, shape)
    for a, side, size, of_volume, of_window in zip(start, window, shape, in_volume, in_window, strict=True):
        shared = [index for index in range(size) if a <= index < a + side]
        assert list(range(size))[of_volume] == shared
        assert list(range(side))[of_window] == [index - a for index in shared]
        assert min(of_volume.start, of_window.start) >= 0
