"""The files that the blocks of README and docs name, as small as can be."""

import json
import re
from pathlib import Path

import numpy as np
import torch

from deepedit.io.nifti import write_label, write_volume
from deepedit.io.phantom import make_case
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from deepedit.volume import Volume
from tests.docs.pages import ROOT, blocks
from tests.network.dynunet import random_state_dict

SPLEEN = {"spleen": 1}
HIPPOCAMPUS = {"Anterior": 1, "Posterior": 2}
ORGANS = {"liver": 1, "spleen": 2, "aorta": 3}
CASES = ("04", "07", "10")


def lay_out(code: str, folder: Path) -> None:
    """Write the files that commands or Python name before they make them themselves."""
    for name, (write, *arguments) in FILES.items():
        named = re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w./-])", code)
        made = [code.find(f"--output {start}") for start in (name, str(Path(name).parent))]
        if named and not any(0 <= each < named.start() for each in made):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write(folder / name, *arguments)


def dataset(folder: Path, prefix: str, labels: dict[str, int]) -> None:
    for number, case in enumerate(CASES):
        image, label = make_case(np.random.default_rng(number), shape=(20, 18, 16))
        label.data[label.data > max(labels.values())] = 0
        for room in ("imagesTr", "labelsTr"):
            (folder / room).mkdir(parents=True, exist_ok=True)
        write_volume(folder / "imagesTr" / f"{prefix}_{case}.nii.gz", image.data, image, np.int16)
        write_label(folder / "labelsTr" / f"{prefix}_{case}.nii.gz", label.data, image)
    names = {"background": 0, **labels}
    description = {"modality": {"0": "CT"}, "labels": {str(value): name for name, value in names.items()}}
    (folder / "dataset.json").write_text(json.dumps(description))


def model(file: Path, prefix: str, labels: dict[str, int]) -> None:
    """One that was not trained."""
    known = Labels(tuple(labels), tuple(labels.values()))
    config = UNetConfig(filters=(4, 4), strides=(1, 2), kernels=(3, 3))
    network = build_network(input_channels(1, known.num_classes), known.num_classes, config, seed=0)
    plan = Plan(known, (4.0, 4.0, 4.0), (32, 32, 32), Intensity("window", -175.0, 250.0))
    cases = [f"{prefix}_{case}" for case in CASES]
    save_model(file, Model(network.eval(), plan, tuple(cases[:-1]), tuple(cases[-1:])))


def image() -> Volume:
    """Large enough for the clicks on the pages, at voxels as well as in mm."""
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = 60, -80, 20
    noise = np.random.default_rng(0).normal(0, 100, size=(128, 112, 60))
    return Volume(noise.astype(np.int16), affine)


def case(file: Path) -> None:
    write_volume(file, image().data, image())


def other_tool(file: Path) -> None:
    """A segmentation in which 255 is the spleen."""
    label = np.zeros(image().shape, np.uint8)
    label[100:125, 60:100, 30:50] = 255
    write_label(file, label, image())


def series(folder: Path) -> None:
    from tests.io.dicom_files import save_series

    save_series(folder, image().data[::4, ::4, ::4].copy())


def markups(file: Path) -> None:
    """As 3D Slicer saves them: the name of the node is not that of a label, but those of the points are."""
    places = {"spleen-1": [60, 5, 100], "background-1": [30, 0, 100]}
    points = [{"label": label, "position": place} for label, place in places.items()]
    node = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points}
    file.write_text(json.dumps({"markups": [node]}))


def monai_weights(file: Path) -> None:
    strides = [(1, 1, 1), *[(2, 2, 2)] * 4, (2, 2, 1)]
    torch.save(random_state_dict(3, 2, (4, 4, 4, 4, 4, 4), strides), file)


def codes(file: Path) -> None:
    """That of the page itself."""
    (block,) = blocks(ROOT / "docs" / "dicom.md", "json")
    file.write_text(block.text)


FILES = {
    "Task09_Spleen": (dataset, "spleen", SPLEEN),
    "Task04_Hippocampus": (dataset, "hippocampus", HIPPOCAMPUS),
    "OpenKBP": (dataset, "pt", ORGANS),
    "runs/spleen/model.pt": (model, "spleen", SPLEEN),
    "runs/hippocampus/model.pt": (model, "hippocampus", HIPPOCAMPUS),
    "case.nii.gz": (case,),
    "other_tool.nii.gz": (other_tool,),
    "series": (series,),
    "clicks.mrk.json": (markups,),
    "weights.pt": (monai_weights,),
    "dataset.json": (codes,),
}
