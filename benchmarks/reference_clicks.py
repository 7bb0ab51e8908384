"""Click simulation in plain numpy and scipy, step by step as the reference does it: the peer of a benchmark.

One volume at a time, one class at a time, on the host. It does less than the reference: one click for each class's
error region, and none for the classes that a class overran.
"""

import numpy as np
from scipy import ndimage


def error_regions(prediction, label, num_classes):
    """Mask ``[X, Y, Z]`` float32 of each class's error region."""
    regions = []
    for index in range(num_classes):
        truth = (label == index).astype(np.float32)
        predicted = (prediction == index).astype(np.float32)
        regions.append((truth - predicted > 0).astype(np.float32))
    return regions


def distances(regions):
    """Chessboard distance of each mask's voxels to the outside of the mask."""
    return [ndimage.distance_transform_cdt(region, metric="chessboard") for region in regions]


def sample_clicks(regions, distance, random):
    """A voxel of each region, P ~ exp(distance) - 1; None where a class has no region."""
    clicks = []
    for region, depth in zip(regions, distance, strict=True):
        inside = np.flatnonzero(region.ravel() > 0)
        if not len(inside):
            clicks.append(None)
            continue
        weight = np.exp(depth.ravel()) - 1.0
        chosen = random.choice(inside, p=weight[inside] / weight[inside].sum())
        clicks.append(np.unravel_index(chosen, region.shape))
    return clicks


def render_guidance(clicks, shape, sigma):
    """Guidance ``[C, X, Y, Z]`` float32: ones at the clicks, smoothed, scaled to [0, 1]."""
    channels = []
    for click in clicks:
        signal = np.zeros(shape, dtype=np.float32)
        if click is not None:
            signal[click] = 1.0
            signal = ndimage.gaussian_filter(signal, sigma, truncate=4.0, mode="constant")
            signal = (signal - signal.min()) / (signal.max() - signal.min())
        channels.append(signal)
    return np.stack(channels)
