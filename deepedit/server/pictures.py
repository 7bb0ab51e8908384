"""Images as a page shows them: voxels in the display's order and in few bytes, and what there is to know of them."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import DeepEditError
from deepedit.files import one_line
from deepedit.inference.session_file import image_digest
from deepedit.server.display import ENDS, Axes, is_oblique
from deepedit.server.images import Read, identity, read_image
from deepedit.volume import Reading, Volume

SAMPLE = 2**20
"""Voxels that percentiles are taken of, about."""
PERCENTILES = (1, 99.5)
FAT = -150
"""HU; images whose values are whole and begin below that are taken for CT."""
SOFT_TISSUE = (40.0, 400.0)
"""Centre and width in HU, as radiologists look at soft tissue."""


@dataclass(frozen=True)
class Picture:
    """A channel of an image.

    Attributes:
        facts: what a page needs besides the voxels, as JSON.
        voxels: ``[z, y, x]`` uint8, int16 or uint16, in the order of C.
    """

    facts: dict[str, Any]
    voxels: np.ndarray


class Pictures:
    """Images that pages look at, read once for as long as their files stay the same. All methods may be called by any
    thread; one image is read at a time, and those that were read are told meanwhile.

    Args:
        limit: bytes that they may take; the least recently used are dropped, but never the newest.
        read: images by it; from their files unless given.
    """

    def __init__(self, limit: int, read: Read | None = None) -> None:
        self._limit, self._read = limit, read or read_image
        self._reading, self._lock = threading.Lock(), threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Picture, ...]] = OrderedDict()

    def of(self, images: Sequence[Path], reading: Reading, channel: int = 0) -> Picture:
        """A channel of an image.

        Args:
            images: its file, or a file for each channel.

        Raises:
            FileError: if a file cannot be read.
            DeepEditError: if there is no such channel.
        """
        key = (reading, *map(identity, images))
        channels = self._found(key)
        if channels is None:
            with self._reading:
                # It may have been read while this call waited.
                channels = self._found(key) or self._keep(key, _pictures(self._read(images, reading), images[0].name))
        if not 0 <= channel < len(channels):
            raise DeepEditError(f"there is no channel {channel}; the image has {len(channels)}, counted from 0")
        return channels[channel]

    def _found(self, key: Hashable) -> tuple[Picture, ...] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: Hashable, pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        with self._lock:
            self._kept[key] = pictures
            while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > self._limit:
                self._kept.popitem(last=False)
        return pictures


def _bytes(pictures: Sequence[Picture]) -> int:
    return sum(picture.voxels.nbytes for picture in pictures)


def _pictures(volume: Volume, name: str) -> tuple[Picture, ...]:
    axes = Axes.of(volume.affine, volume.shape)
    affine = volume.affine @ axes.matrix
    channels = volume.data.reshape(-1, *volume.shape)
    common = {
        "shape": list(axes.display_shape),
        "axes": [{"axis": a, "flipped": flipped} for a, flipped in zip(axes.permutation, axes.flips, strict=True)],
        "file_shape": list(axes.shape),
        "spacing": np.linalg.norm(affine[:3, :3], axis=0).tolist(),
        "affine": affine.tolist(),
        "letters": [list(ends) for ends in ENDS],
        "oblique": is_oblique(affine),
        "channels": len(channels),
        "digest": image_digest(volume),
        "notes": [f"{one_line(name)}: {note}" for note in volume.notes],
    }
    return tuple(_picture(data, axes, {**common, "channel": number}) for number, data in enumerate(channels))


def _picture(data: np.ndarray, axes: Axes, common: dict[str, Any]) -> Picture:
    low, high = float(data.min()), float(data.max())
    whole = all((plane == np.rint(plane)).all() for plane in data.T)  # planes as they lie in memory
    kind = next((each for each in (np.uint8, np.int16, np.uint16) if whole and _holds(each, low, high)), None)
    slope, intercept = (1.0, 0.0) if kind else ((high - low) / 65535, low)
    if kind:
        voxels = axes.copy(data, dtype=kind)
    else:
        voxels = axes.copy(data, lambda part: np.rint((part - np.float64(low)) / slope), np.uint16)
    hounsfield = whole and low <= FAT and high <= np.iinfo(np.int16).max
    sample = data.ravel(order="K")[:: max(1, data.size // SAMPLE)]
    darkest, brightest = map(float, np.percentile(sample, PERCENTILES))
    window = list(SOFT_TISSUE) if hounsfield else [(darkest + brightest) / 2, max(brightest - darkest, 1e-6)]
    facts = {
        "range": [low, high],
        "window": window,
        "hounsfield": hounsfield,
        "dtype": voxels.dtype.name,
        "slope": slope,
        "intercept": intercept,
        "bytes": voxels.nbytes,
    }
    return Picture({**common, **facts}, voxels)


def _holds(kind: type, low: float, high: float) -> bool:
    return np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
