"""MONAI's DeepEdit in training as its tutorial sets it up: persistent dataset, transforms, clicks, ignite engine."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import torch
from ignite.engine import Events
from monai.apps.deepedit.interaction import Interaction
from monai.apps.deepedit.transforms import (
    AddGuidanceSignalDeepEditd,
    AddInitialSeedPointMissingLabelsd,
    AddRandomGuidanceDeepEditd,
    FindAllValidSlicesMissingLabelsd,
    FindDiscrepancyRegionsDeepEditd,
    NormalizeLabelsInDatasetd,
)
from monai.data import DataLoader, PersistentDataset
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from monai.losses import DiceCELoss
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandFlipd,
    RandRotate90d,
    RandShiftIntensityd,
    Resized,
    ScaleIntensityRanged,
    ToNumpyd,
    ToTensord,
)
from torch import nn

from benchmarks.timing import synchronise
from deepedit.io.msd import Case

BOTH = ("image", "label")
CLICK_PROBABILITY = 0.4
LEARNING_RATE = 1e-4


def seconds_of_steps(
    network: nn.Module,
    cases: Sequence[Case],
    labels: Mapping[str, int],
    shape: Sequence[int],
    steps: int,
    cache: Path,
    device: torch.device,
    limit: float = float("inf"),
    workers: int = 2,
) -> list[float]:
    """What each of `steps` steps took, reading included; the cache is filled before, and all steps are one epoch.

    Args:
        network: DynUNet, from image and a channel a label to a channel a label.
        cases: one image file each.
        labels: names to file values, the background among them.
        shape: of the network's grid.
        cache: folder of the persistent dataset.
        limit: no further step once these seconds are spent on steps.
        workers: processes that read.
    """
    files = [{"image": str(case.image[0]), "label": str(case.label)} for case in cases]
    with ThreadPoolExecutor() as pool:
        list(pool.map(PersistentDataset(files, preparation(labels, shape), cache).__getitem__, range(len(files))))
    # Between two epochs the loader starts its processes anew, which a large dataset seldom sees.
    files *= -(-(steps + 1) // len(files))
    dataset = PersistentDataset(files[: steps + 1], preparation(labels, shape), cache)
    ends: list[float] = []
    trainer = SupervisedTrainer(
        device=device,
        max_epochs=1,
        train_data_loader=DataLoader(dataset, batch_size=1, shuffle=True, num_workers=workers),
        network=network.to(device).train(),
        iteration_update=Interaction(CLICK_PROBABILITY, clicking(labels), train=True, label_names=dict(labels)),
        optimizer=torch.optim.Adam(network.parameters(), LEARNING_RATE),
        loss_function=DiceCELoss(to_onehot_y=True, softmax=True),
        inferer=SimpleInferer(),
        postprocessing=Compose(
            [
                Activationsd(keys="pred", softmax=True),
                AsDiscreted(keys=("pred", "label"), argmax=(True, False), to_onehot=(len(labels), len(labels))),
            ]
        ),
        amp=device.type == "cuda",
    )

    @trainer.on(Events.ITERATION_COMPLETED)
    def note_the_time() -> None:
        synchronise(device)
        ends.append(time.perf_counter())
        if ends[-1] - ends[0] > limit:
            trainer.terminate()

    trainer.run()
    return [end - begin for begin, end in pairwise(ends)]


def preparation(labels: Mapping[str, int], shape: Sequence[int]) -> Compose:
    """From files to the network's input without clicks; what comes before the first random choice is cached."""
    return Compose(
        [
            LoadImaged(keys=BOTH, reader="NibabelReader"),
            EnsureChannelFirstd(keys=BOTH),
            NormalizeLabelsInDatasetd(keys="label", label_names=dict(labels)),
            Orientationd(keys=BOTH, axcodes="RAS"),
            ScaleIntensityRanged(keys="image", a_min=-175, a_max=250, b_min=0.0, b_max=1.0, clip=True),
            *(RandFlipd(keys=BOTH, spatial_axis=[axis], prob=0.1) for axis in range(3)),
            RandRotate90d(keys=BOTH, prob=0.1, max_k=3),
            RandShiftIntensityd(keys="image", offsets=0.1, prob=0.5),
            Resized(keys=BOTH, spatial_size=list(shape), mode=("area", "nearest")),
            FindAllValidSlicesMissingLabelsd(keys="label", sids="sids"),
            AddInitialSeedPointMissingLabelsd(keys="label", guidance="guidance", sids="sids"),
            AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", number_intensity_ch=1),
            ToTensord(keys=BOTH),
        ]
    )


def clicking(labels: Mapping[str, int]) -> Compose:
    """From a prediction to the input with its clicks."""
    return Compose(
        [
            Activationsd(keys="pred", softmax=True),
            AsDiscreted(keys="pred", argmax=True),
            ToNumpyd(keys=("image", "label", "pred")),
            FindDiscrepancyRegionsDeepEditd(keys="label", pred="pred", discrepancy="discrepancy"),
            AddRandomGuidanceDeepEditd(
                keys="NA", guidance="guidance", discrepancy="discrepancy", probability="probability"
            ),
            AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", number_intensity_ch=1),
            ToTensord(keys=("image", "label")),
        ]
    )
