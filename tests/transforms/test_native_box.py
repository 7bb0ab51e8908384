"""What one window of the network decides, without the rest of the volume."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.boxes import bounding_box
from deepedit.transforms.geometry import network_grid

AFFINES = (
    np.eye(4),
    np.diag([-1.0, -1, 2, 1]),
    np.array([[0, 0, -0.7, 9], [1.5, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
)


@given(
    st.tuples(*[st.integers(1, 20)] * 3),
    st.sampled_from(AFFINES),
    st.tuples(*[st.sampled_from([0.6, 1.0, 1.7, 9.0])] * 3),
    st.integers(0, 2**31 - 1),
)
@settings(max_examples=60, deadline=None)
def test_only_voxels_of_the_native_box_depend_on_a_window_and_each_is_decided_alike(shape, affine, spacing, seed):
    rng = np.random.default_rng(seed)
    grid = network_grid(shape, affine, spacing)
    logits = torch.from_numpy(rng.normal(size=(3, *grid.network_shape)).astype(np.float32))
    firsts = [int(rng.integers(0, size)) for size in grid.network_shape]
    place = tuple(
        slice(a, int(rng.integers(a + 1, size + 1))) for a, size in zip(firsts, grid.network_shape, strict=True)
    )

    box = grid.native_box(place)
    whole = grid.labels_to_native(logits)
    if all(span.stop > span.start for span in box):
        assert torch.equal(grid.labels_to_native(logits, box), whole[box])

    other = logits.clone()
    other[(slice(None), *place)] = -other[(slice(None), *place)]
    changed = (grid.to_native(other) != grid.to_native(logits)).any(0)
    dependent = bounding_box(changed.numpy())
    # Voxels whose weight is 0 may belong to it, as those that lie on a neighbour of the window.
    for within, span in zip(dependent, box, strict=True) if dependent else ():
        assert span.start <= within.start <= span.start + 1
        assert span.stop - 1 <= within.stop <= span.stop
