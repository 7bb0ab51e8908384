"""What a run on a folder of studies is trained on: the labelled studies, and what its model was trained on before."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deepedit.io.dataset_json import IGNORE
from deepedit.io.msd import Dataset
from deepedit.io.pairing import Case
from deepedit.io.studies import find_labelled_studies
from deepedit.network.checkpoint import Model
from deepedit.plan import Plan
from deepedit.volume import Reading


def studies_dataset(folder: Path, labels: Mapping[str, int] | None, reading: Reading, model: Model) -> Dataset:
    """The labelled cases of a folder of studies and, as far as they are still there, those that a model was trained on.

    Args:
        labels: names to file values; None: those of the model.
        model: the model to start from or to go on with.

    Raises:
        DatasetError, FileError: as for `find_labelled_studies`.
    """
    own = labels_of(model.plan)
    labels = own if labels is None else labels
    earlier, note = earlier_cases(model), None
    if not earlier:
        note = "the model does not say where the cases lie that it was trained on; trained on the studies alone"
    elif any(own.get(name) != value for name, value in labels.items()):
        earlier, note = (), "the labels are not those of the model; trained on the studies alone"
    dataset = find_labelled_studies(folder, labels, reading, model.plan.image_channels, earlier)
    return replace(dataset, warnings=(*dataset.warnings, *([note] if note else [])))


def labels_of(plan: Plan) -> dict[str, int]:
    """The labels of a plan as they are asked for: names to file values, that of voxels to ignore among them."""
    labels = dict(zip(plan.labels.names, plan.labels.values, strict=True))
    return labels if plan.ignore is None else {**labels, IGNORE: plan.ignore}


def earlier_cases(model: Model) -> tuple[Case, ...]:
    """The cases that a model was trained on, where they lay then; empty if its file does not say."""
    return tuple(
        Case(name, tuple(map(Path, images)), Path(label)) for name, (*images, label) in model.training_files.items()
    )


def files_of(dataset: Dataset, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Where these cases of a dataset lie, as a model remembers it."""
    wanted = set(names)
    return {
        case.name: tuple(str(path.absolute()) for path in (*case.image, case.label_file))
        for case in dataset.cases
        if case.name in wanted
    }
