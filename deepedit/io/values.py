"""What is promised of the values of an image and of a label map, whatever the format of their file."""

import numpy as np

from deepedit.errors import FileError
from deepedit.files import available_memory

# Labels that went through a scaled integer type come back a little off.
LABEL_TOLERANCE = 1e-3
MAX_LABEL = 2**31 - 1
CHUNK = 2**22


def image_values(stored: np.ndarray, name: str, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """The scaled values of an image.

    Args:
        stored: flat, as they are in the file.
        name: that of the file, for messages.

    Returns:
        float32, flat.

    Raises:
        FileError: if a value is not finite, or beyond float32.
    """
    if stored.dtype == np.float32 and not _is_scaled(slope, intercept):
        values = stored
    else:
        values = np.empty(stored.size, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for part in _chunks(stored.size):
                values[part] = stored[part].astype(np.float64) * slope + intercept
    bad = sum(int((~np.isfinite(values[part])).sum()) for part in _chunks(values.size))
    if bad:
        raise FileError(
            f"{name}: {bad} of {values.size} voxels are NaN, infinite or beyond float32; "
            "replace them, for example by the value of air"
        )
    return values


def label_values(stored: np.ndarray, name: str, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """The values of a label map.

    Args:
        stored, name: as for `image_values`.

    Returns:
        uint8, int16 or int32, the first of these that holds every value; flat.

    Raises:
        FileError: if a value is negative, fractional, NaN or above 2**31 - 1; the message names such values.
    """
    offending: set[float] = set()
    values = np.empty(stored.size, np.int32)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _chunks(stored.size):
            found = stored[part]
            if found.dtype.kind == "f" or _is_scaled(slope, intercept):
                exact = found.astype(np.float64) * slope + intercept
                found = np.rint(exact)
                fits = np.abs(exact - found) <= LABEL_TOLERANCE  # False for NaN
            else:
                exact, fits = found, True
            fits = fits & (found >= 0) & (found <= MAX_LABEL)
            if not fits.all():
                offending.update(np.unique(exact[~fits])[:8].tolist())
            values[part] = found
    if offending:
        named = ", ".join(list(dict.fromkeys(f"{value:g}" for value in sorted(offending)))[:8])
        raise FileError(f"{name}: labels must be whole numbers from 0 on, it has {named}; write it anew")
    largest = int(values.max())
    small = next(t for t in (np.uint8, np.int16, np.int32) if largest <= np.iinfo(t).max)
    return values.astype(small, copy=False)


def refuse_too_large(needed: int, shape: tuple[int, int, int], channels: int, name: str) -> None:
    """Raise an error if so many bytes of memory are not free, before an image of this shape is read."""
    free = available_memory()
    if free is not None and needed > free:
        sides = " x ".join(map(str, (*shape, channels)[: 3 + (channels > 1)]))
        raise FileError(
            f"{name}: reading {sides} voxels takes about {needed / 2**30:.1f} GiB of memory and "
            f"{free / 2**30:.1f} GiB are free; crop or resample it"
        )


def checked_labels(labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Labels to be written, in the smallest unsigned type that holds them.

    Raises:
        ValueError: if they are not of this shape, or not integers or booleans from 0 on.
    """
    labels = np.asarray(labels)
    if labels.shape != shape:
        raise ValueError(f"labels of shape {labels.shape} do not fit an image of shape {shape}")
    if labels.dtype.kind not in "biu" or labels.min() < 0:
        raise ValueError(f"labels must be integers from 0 on; got {labels.dtype} from {labels.min()}")
    return labels.astype(np.min_scalar_type(int(labels.max())), copy=False)


def checked_data(data: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Numbers to be written, ``[X, Y, Z]`` or ``[C, X, Y, Z]``.

    Raises:
        ValueError: if their spatial shape is another one.
    """
    data = np.asarray(data)
    if data.ndim not in (3, 4) or data.shape[-3:] != shape:
        raise ValueError(f"data of shape {data.shape} does not fit an image of shape {shape}")
    return data


def foreground_values(labels: np.ndarray) -> tuple[int, ...]:
    """The distinct values above 0 of a label map, in ascending order."""
    largest = int(labels.max())
    if largest > 2**16:
        return tuple(int(value) for value in np.unique(labels) if value)
    present = np.zeros(largest + 1, dtype=bool)
    for index in range(labels.shape[-1]):  # by slices: numpy widens an index to eight bytes a voxel
        present[labels[..., index]] = True
    return tuple(int(value) for value in np.flatnonzero(present) if value)


def _chunks(count: int) -> list[slice]:
    """Slices that cover `count` values, so that temporary float64 copies stay small."""
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]


def _is_scaled(slope: float, intercept: float) -> bool:
    return (slope, intercept) != (1.0, 0.0)
