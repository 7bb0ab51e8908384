"""3D Slicer's extension at work from the first sample to the new model, with a log of what happens.

    python -m tests.soak.slicer [--model MODEL] [--minutes 4] [--cases 6] [--clicks 10]

A model is trained on synthetic cases, unless one is given, and served for other ones, which have no labels. The
extension fetches one after the other, has it segmented automatically, clicks ten times where the simulated annotator of
`deepedit-evaluate` does, finishes by hand, and submits. Then it trains, and the new model answers if it is not worse.
Each result in Slicer is held against that of a session of its own, to the voxel.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from deepedit.inference.annotation import annotate
from deepedit.inference.session import InteractiveSession
from deepedit.io.phantom import write_phantom
from deepedit.metrics import dice
from deepedit.network.checkpoint import load_model
from deepedit.server.service import load_models
from tests.server.live import Live, serving
from tests.server.slicer import Slicer


def work(
    folder: Path,
    model_file: Path,
    truths: Mapping[str, Path],
    clicks: int,
    minutes: float,
    say: Callable[[str], None],
    adopt: bool = False,
) -> str:
    """Work through all cases of ``folder/studies``, and train.

    Args:
        folder: for temporary files, too.
        model_file: to serve.
        truths: a label map of each case.
        clicks: for each case.
        minutes: of training.
        say: called with the lines of the log.
        adopt: take the new model without a comparison.

    Returns:
        What the training ended with: DONE, unless it failed.

    Raises:
        AssertionError: if Slicer shows something else than a session of its own, or an error.
    """
    studies = folder / "studies"
    with serving(load_models([model_file], studies, "cpu", say), studies, adopt=adopt) as live:
        slicer = Slicer(live.url, folder)
        slicer.settings["MONAILabel/autoRunSegmentationOnNextSample"] = True
        slicer.widget.onClickFetchInfo()
        model = load_model(model_file)
        for _ in truths:
            slicer.widget.onNextSampleButton()
            case = slicer.widget.current_sample["id"]
            truth = model.plan.labels.to_classes(np.asarray(nib.load(truths[case]).dataobj))
            session = InteractiveSession(model)
            session.set_image(studies / f"{case}.nii.gz")
            for each in annotate(session, truth, clicks):
                if each.voxel is not None:
                    slicer.click(model.plan.labels.class_names[each.label], each.voxel)
                assert not slicer.errors, slicer.errors
                shown = slicer.segmentation(model.plan.labels.names)
                assert np.array_equal(shown, each.classes), (case, each.clicks)
                asked = "automatic" if each.voxel is None else f"click {each.clicks:2d} at {each.voxel}"
                say(f"{case}: {asked:<28} mean Dice {mean_dice(shown, truth):.3f}, as the session's to the voxel")
            for rank, name in enumerate(model.plan.labels.names, 1):
                slicer.paint(name, truth == rank)
            slicer.widget.onSaveLabel()
            assert not slicer.errors, slicer.errors
            say(f"{case}: finished by hand and submitted; {slicer.widget.info['datastore']}")
        slicer.widget.onNextSampleButton()
        say(f"next sample: {slicer.warnings[-1].splitlines()[0]}")
        status = train(slicer, live, minutes, say)
        image = next(iter(sorted(studies.glob("*.nii.gz"))))
        slicer.open(image, image.name.removesuffix(".nii.gz"))
        slicer.widget.current_sample["session"] = False
        slicer.widget.onClickSegmentation()
        assert not slicer.errors, slicer.errors
        current = live.service.finetuning.current
        session = InteractiveSession(load_model(current))
        session.set_image(image)
        expected = model.plan.labels.to_classes(session.predict())
        assert np.array_equal(slicer.segmentation(model.plan.labels.names), expected)
        say(f"{image.name}: automatic result as of {current.relative_to(folder)}, to the voxel")
    load_models([model_file], studies, "cpu", lambda line: say(f"after a restart: {line}"))
    return status


def train(slicer: Slicer, live: Live, minutes: float, say: Callable[[str], None]) -> str:
    """Train by the extension until it says that it is over; returns the status."""
    slicer.widget.info["trainers"]["deepedit"]["config"]["max_minutes"] = minutes  # as by the table of options
    slicer.widget.onTraining()
    assert not slicer.errors, slicer.errors
    (tick,) = slicer.timers
    told = None
    while slicer.widget.timer is not None:
        tick()
        bar = slicer.ui.trainingProgressBar.setValue.call_args[0][0]
        if bar != told:
            say(f"training: {bar:.0f} %")
            told = bar
        time.sleep(1)
    task = slicer.widget.logic.train_status(False)
    for line in (*task["details"], f"status {task['status']}", *(f"server: {line}" for line in live.said)):
        say(f"training: {line}")
    return task["status"]


def mean_dice(classes: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([dice(classes == index, truth == index) for index in range(1, int(truth.max()) + 1)]))


def unlabelled(folder: Path, cases: int, **options: object) -> dict[str, Path]:
    """Synthetic cases without labels in ``folder/studies``; returns the label map of each, which lies elsewhere."""
    phantom = write_phantom(folder / "truth", num_cases=cases, **options)
    (folder / "studies").mkdir()
    for path in (phantom / "imagesTr").iterdir():
        shutil.copy(path, folder / "studies" / path.name.replace("phantom", "study"))
    labels = (phantom / "labelsTr").iterdir()
    return {path.name.removesuffix(".nii.gz").replace("phantom", "study"): path for path in labels}


def main() -> None:
    from deepedit_cli import train as command

    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model", type=Path, help="trained on other synthetic cases; default: one is trained first")
    options.add_argument("--minutes", type=float, default=4, help="of the first training; the second takes half of it")
    options.add_argument("--cases", type=int, default=6, help="at least 5, or there is no training")
    options.add_argument("--clicks", type=int, default=10)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "run" / "model.pt"
        if chosen.model:
            model.parent.mkdir()
            shutil.copy(chosen.model, model)
        else:
            data = write_phantom(folder / "data", num_cases=12, seed=0)
            arguments = [f"--input={data}", f"--output={model.parent}", f"--max-minutes={chosen.minutes}"]
            assert command.main([*arguments, "--device=cpu"]) == 0
        truths = unlabelled(folder, chosen.cases, seed=1)
        work(folder, model, truths, chosen.clicks, chosen.minutes / 2, print)


if __name__ == "__main__":
    main()
