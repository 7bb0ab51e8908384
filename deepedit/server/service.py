"""What a server serves: models, a folder of studies, and the work that is going on."""

import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepedit.errors import DeepEditError, ModelError
from deepedit.files import one_line
from deepedit.inference.session_file import model_digest
from deepedit.network.checkpoint import Model, load_model
from deepedit.network.inputs import pick_device
from deepedit.plan import BACKGROUND, Labels
from deepedit.server.access import Access
from deepedit.server.adopted import adopted_model
from deepedit.server.catalogue import OWN
from deepedit.server.dicomweb import DicomStore
from deepedit.server.errors import NotFound
from deepedit.server.finetuning import FineTuning
from deepedit.server.images import Handover
from deepedit.server.lock import FolderLock
from deepedit.server.pictures import Pictures
from deepedit.server.places import Places
from deepedit.server.questions import STARTS, unreachable_labels
from deepedit.server.sampling import Sampler
from deepedit.server.scores import Scores
from deepedit.server.sessions import Sessions
from deepedit.server.studies import Studies
from deepedit.server.uploads import KeptImages
from deepedit.server.worker import Worker

PICTURES = 8
"""One part in so many of the memory is for the images that pages show, the rest for sessions."""

LARGEST_STARTS = 4 * 2**30
"""Bytes of the disk that segmentations take which pages begin with."""

KINDS = {
    "segmentation": "automatic segmentation",
    "deepedit": "segmentation from clicks",
    "scribbles": "correction of what is there now, manual edits included, by scribbles",
}
"""What clients may ask a model for, in the order in which they are told."""


@dataclass(frozen=True)
class Served:
    """One thing that clients may ask for: a model, in one of its kinds.

    Attributes:
        name: as clients ask for it.
        kind: one of `KINDS`.
        sessions: of the model.
    """

    name: str
    kind: str
    sessions: Sessions

    def facts(self) -> dict[str, object]:
        """What the protocol tells of it."""
        labels = self.sessions.labels
        config: dict[str, object] = {"tta": False}
        if self.kind == "deepedit" and self.sessions.model.plan.previous:
            config = {"start_from": list(STARTS)} | config
        return {
            "type": self.kind,
            "labels": {name: rank for rank, name in enumerate(labels.names, 1)},
            "dimension": 3,
            "description": KINDS[self.kind],
            "config": config,
        }


class Service:
    """All that the endpoints work with.

    Args:
        models: files that were named, and what is served for them; the first is fine-tuned.
        studies: folder of images and label maps.
        access: who may come.
        memory: bytes that the sessions of all models may take.
        trains: whether clients may fine-tune.
        adopt: take a fine-tuned model even if it could not be compared.
        device: to fine-tune on, see `pick_device`.
        say: called with lines for whoever runs the server.
        stores: whether the folder takes what clients send; else it is there for the time being only.
        store: a DICOM store, whose series are cases, too.

    Raises:
        DeepEditError: if another server works on the folder, or the folder or a model cannot be served.
    """

    def __init__(
        self,
        models: Sequence[tuple[Path, Model]],
        studies: Path,
        access: Access,
        memory: int,
        trains: bool = True,
        adopt: bool = False,
        device: str = "auto",
        say: Callable[[str], None] = lambda line: None,
        stores: bool = True,
        store: DicomStore | None = None,
    ) -> None:
        say = _anyway(say)
        self.access, self.say, self.stores, self.store = access, say, stores, store
        self.labels = common_labels(models)
        for name in unreachable_labels(self.labels):
            say(
                f"note: a viewer cannot click for a label that is called {name!r}; it sends something else by that name"
            )
        self._lock = FolderLock(studies / OWN, studies, say)
        first = models[0][1]
        if trains and any(set(first.plan.labels.names) - set(model.plan.labels.names) for _, model in models):
            trains = False
            say(
                "note: nothing can be fine-tuned here, as a label map that is submitted with one of the models may "
                "lack labels of the first; serve that one alone to fine-tune it"
            )
        if store is not None:
            store.remove_left_behind()
        self.studies = Studies(studies, self.labels, say, first.plan.image_channels, first.plan.reading, store)
        shown, handover = memory // PICTURES, Handover(memory // PICTURES // 2)
        each = (memory - shown) // len(models)
        self.sessions = [Sessions(model, each, say, read=handover.take) for _, model in models]
        self.served = _served([path for path, _ in models], self.sessions)
        others = [path for path, _ in models[1:]]
        self.finetuning = (
            FineTuning(models[0][0], studies, self.adopt, say, device=device, unproven=adopt, others=others)
            if trains
            else None
        )
        self.kept, self.starts = KeptImages(), KeptImages(LARGEST_STARTS)
        folders = (self.studies.folder, *(path.parent for path, _ in models), Path(tempfile.gettempdir()))
        self.places = Places(folders, (self.kept.folder, self.starts.folder))
        self.pictures = Pictures(shown - shown // 2, handover.leave)
        self.worker = Worker(self._forget_sessions, say)
        self.scores = Scores(
            self.studies, self.sessions[0].uncertainty, model_digest(first), self.worker.in_background, say
        )
        self.sampler = Sampler(self.studies, np.random.default_rng(0), self.scores, say=say)

    def find(self, name: str) -> Served:
        """What clients ask for by a name.

        Raises:
            NotFound: if there is nothing of that name.
        """
        if name not in self.served:
            raise NotFound(f"there is no model {one_line(name, 60)!r}; choose one of {', '.join(self.served)}")
        return self.served[name]

    def require_folder(self) -> None:
        """Raise a DeepEditError if there is no folder to store something in."""
        if not self.stores:
            raise DeepEditError(
                "this server shows one image and stores nothing; save the segmentation, or start it with --studies"
            )

    def adopt(self, path: Path) -> None:
        """Answer from now on with another model."""
        model = load_model(path, self.sessions[0].model.device)
        self.sessions[0].replace_model(model)
        self.scores.replace_model(model_digest(model))

    def _forget_sessions(self) -> None:
        for sessions in self.sessions:
            sessions.forget()

    def close(self) -> None:
        """End all work that is going on."""
        if self.finetuning:
            self.finetuning.close()
        self.worker.close()
        self.kept.close()
        self.starts.close()
        self._lock.close()


def _anyway(say: Callable[[str], None]) -> Callable[[str], None]:
    """What says lines as long as somebody reads them: a terminal that is closed does not end what is under way."""

    def told(line: str) -> None:
        with suppress(OSError, ValueError):
            say(line)

    return told


def load_models(
    paths: Sequence[Path], studies: Path | None, device: str, say: Callable[[str], None]
) -> list[tuple[Path, Model]]:
    """The files that were named, and the model that is served for each.

    For the first that is the one which was fine-tuned from it on these studies, if one was adopted.

    Args:
        studies: None where there is no folder of them.
        device: see `pick_device`.
        say: is told which it is.
    """
    first, line = (paths[0], f"serving {one_line(paths[0])}") if studies is None else adopted_model(paths[0], studies)
    say(line)
    files = [first, *paths[1:]]
    return [(path, load_model(file, pick_device(device))) for path, file in zip(paths, files, strict=True)]


def common_labels(models: Sequence[tuple[Path, Model]]) -> Labels:
    """The labels of all models together: what submitted label maps may hold.

    Raises:
        ModelError: if a name stands for two values, or a value for two names.
    """
    names: dict[str, tuple[int, Path]] = {}
    values: dict[int, tuple[str, Path]] = {}
    for path, model in models:
        for name, value in zip(model.plan.labels.names, model.plan.labels.values, strict=True):
            other, owner = names.setdefault(name, (value, path))
            if other != value:
                raise ModelError(
                    f"{one_line(path)}: {name} is {value}, and {other} in {one_line(owner)}; serve them apart"
                )
            called, owner = values.setdefault(value, (name, path))
            if called != name:
                raise ModelError(
                    f"{one_line(path)}: {value} is {name}, and {called} in {one_line(owner)}; serve them apart"
                )
    return Labels.from_mapping({name: value for name, (value, _) in names.items()})


def _served(paths: Sequence[Path], sessions: Sequence[Sessions]) -> dict[str, Served]:
    """What is served by its name: the first model by the names of the kinds alone, the others with their own.

    Names have nothing that clients would write otherwise in the path of an address, as a space, which becomes a plus.
    """
    found: dict[str, Served] = {}
    for number, (path, each) in enumerate(zip(paths, sessions, strict=True)):
        own = path.absolute().parent.name if path.stem in ("model", "last") else path.stem
        own = re.sub("[^A-Za-z0-9_.-]+", "_", own)
        for kind in KINDS:
            if kind == "scribbles" and not each.model.plan.previous:
                continue
            name = kind if number == 0 else f"{kind}-{own}"
            while name in found:
                name += "_"
            found[name] = Served(name, kind, each)
    return found


def label_names(labels: Labels) -> list[str]:
    """Names as the viewer makes segments of them; the background is last, so that it does not shift the others."""
    return [*labels.names, BACKGROUND]
