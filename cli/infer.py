"""``deepedit-infer``: segment one image or a folder of images, automatically, from clicks, or from a segmentation."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepedit.errors import DeepEditError
from deepedit.files import one_line, replace_atomically
from deepedit.io.click_files import PointClick, read_clicks, write_clicks
from deepedit.io.codes import Term, read_codes
from deepedit.io.msd import read_case
from deepedit.io.suffixes import DICOM, ending
from deepedit.io.volumes import write_volume
from deepedit.plan import Labels
from deepedit.volume import Volume
from deepedit_cli.common import PATIENCE, UsageError, complain, on_terminal, progress, run, say, untold
from deepedit_cli.infer_jobs import Job, find_jobs, is_single
from deepedit_cli.infer_options import PROGRAM, command_line
from deepedit_cli.options import chosen_mapping, chosen_reading

if TYPE_CHECKING:  # importing them for good would make --help wait for torch
    from deepedit.inference.session import InteractiveSession
    from deepedit.ranks import Ranks


def main(argv: Sequence[str] | None = None) -> int:
    return run(PROGRAM, infer, argv)


def infer(argv: Sequence[str] | None) -> int:
    """Segment the images that the arguments name, and return the exit status."""
    options = command_line().parse_args(argv)
    if options.space is not None and not options.click:
        raise UsageError("--space is that of --click, and a file of clicks names its own; leave it out")
    clicks = [parse_click(text, options.space or "voxel") for text in options.click]
    single = is_single(options)
    if clicks and not single:
        raise UsageError(f"--click belongs to one image, and {options.input} is a folder; use --clicks FOLDER")
    # Late, so that --help does not wait for torch.
    from deepedit.ranks import joined_ranks

    with joined_ranks("start all of them again", PATIENCE) as ranks:
        infer_shared(options, clicks, single, ranks)
    return 0


def infer_shared(options: argparse.Namespace, clicks: Sequence[PointClick], single: bool, ranks: "Ranks") -> None:
    """Segment the images that the options name, of a folder this rank's share of them.

    Raises:
        DeepEditError: if something fails; of images in a folder, on the first rank after all others are segmented.
    """
    from deepedit.inference.failure import no_memory, why_it_failed
    from deepedit.inference.session import InteractiveSession
    from deepedit.network.checkpoint import load_model
    from deepedit.network.inputs import pick_device

    tell = partial(complain, PROGRAM) if ranks.first else untold
    model = load_model(options.model, pick_device(options.device))
    # What can be refused is refused here: a folder may take hours.
    for text, click in zip(options.click, clicks, strict=True):
        with _naming(f"--click {one_line(text, 60)}"):
            model.plan.labels.index(click.label)
    model.plan = replace(model.plan, reading=chosen_reading(options, model.plan.reading))
    mapping = chosen_mapping(options, model.plan.labels)
    jobs = find_jobs(options, model.plan.image_channels, tell)
    terms = _terms(options, jobs, model.plan.labels, tell)
    # One list for all, and before any output is there that another rank would refuse to overwrite.
    jobs = ranks.gather(jobs)[0]
    session = InteractiveSession(model, options.amp, options.overlap, options.skip_air, options.tta)
    if single:
        if not ranks.first:
            return
        try:
            with _bar(on_terminal()) as on_progress:
                done = segment(session, jobs[0], clicks, mapping, options.same_grid, on_progress, terms)
        except (MemoryError, RuntimeError) as error:
            if reason := no_memory(error):
                raise DeepEditError(f"{one_line(options.input)}: {reason}") from error
            raise
        say(done)
        return
    failed = 0
    for job in progress(ranks.share(jobs), PROGRAM):
        try:
            done = segment(session, job, clicks, mapping, options.same_grid, terms=terms)
        except Exception as error:  # whatever fails, it costs only this image
            failed += 1
            complain(PROGRAM, job.naming(why_it_failed(error)))
        else:
            say(done)
    # Together, and by one rank: torchrun ends all processes as soon as one of them fails.
    (all_failed,) = ranks.sum(failed)
    if all_failed and ranks.first:
        raise DeepEditError(
            f"{all_failed:.0f} of {len(jobs)} images failed, as said above; the others are in "
            f"{one_line(options.output)}"
        )


def segment(
    session: "InteractiveSession",
    job: Job,
    clicks: Sequence[PointClick] = (),
    mapping: Mapping[int, str] | None = None,
    same_grid: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    terms: Mapping[str, Term] | None = None,
) -> str:
    """Segment one image, write all files that the job asks for, and return a line about the result.

    Args:
        session: a session, which is started over.
        job: what to read and what to write.
        clicks: clicks to give after those of the job's file.
        mapping, same_grid: for the initial segmentation, see `InteractiveSession.set_segmentation`.
        on_progress: called with the numbers of windows that are done and that are needed in all.
        terms: coded terms of labels, for a DICOM SEG.

    Raises:
        DeepEditError: if something fails; the message names the file.
    """
    start = time.perf_counter()
    plan = session.model.plan
    volume = read_case(job.case, plan.reading)
    _tell(job, volume.notes)
    with _naming(job.case.image[0]):
        session.set_image(volume)
    if job.initial is not None:
        session.set_segmentation(job.initial, mapping, same_grid)
    # Before the clicks: all of it is wanted in the end, and then they need not be answered twice.
    session.predict(on_progress)
    if job.clicks is not None:
        for click in read_clicks(job.clicks, plan.labels.names):
            with _naming(job.clicks):
                session.add_click(click.position, click.label, click.space)
    for click in clicks:
        with _naming(job.case.image[0]):
            session.add_click(click.position, click.label, click.space)
    result = session.predict()
    _tell(job, session.notes)
    _write_extras(session, job, volume, result)
    # Last, so that if the segmentation exists, all other files do, too.
    session.save(job.output, terms)
    done = f"{one_line(job.output)}: {_volumes(result, volume, plan.labels)}"
    count = len(session.clicks)
    return f"{done} ({count} click{'s' * (count != 1)}, {time.perf_counter() - start:.1f} s)"


def _terms(
    options: argparse.Namespace, jobs: Sequence[Job], labels: Labels, tell: Callable[[str], None]
) -> dict[str, Term] | None:
    """The coded terms of labels, and a note on those that have none."""
    if options.codes is None:
        return None
    if not any(ending(job.output.name, (DICOM,)) for job in jobs):
        raise UsageError("--codes is for DICOM SEG; let the name of the output end in .dcm, or leave it out")
    terms = read_codes(options.codes)
    without = [label for label in labels.names if label not in terms]
    if without:
        listed = ", ".join(one_line(label, 60) for label in without)
        tell(f"note: {one_line(options.codes)}: no code for {listed}; called tissue in the DICOM SEG")
    return terms


@contextlib.contextmanager
def _bar(shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """What shows a bar over the windows of one image."""
    if not shown:
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc="windows", leave=False) as bar:

        def on_progress(done: int, needed: int) -> None:
            bar.total, bar.n = needed, done
            bar.refresh()

        yield on_progress


def _tell(job: Job, notes: Iterable[str]) -> None:
    """Print notes about an image and the files that belong to it."""
    for note in notes:
        about = {one_line(path) for path in (*job.case.image, job.initial, job.clicks) if path is not None}
        named = any(note.startswith(name) for name in about)
        complain(PROGRAM, f"note: {note}" if named else f"note: {one_line(job.case.image[0])}: {note}")


def parse_click(text: str, space: str = "voxel") -> PointClick:
    """A click from ``label:i,j,k``.

    Raises:
        UsageError: if the text has another form.
    """
    label, separator, position = text.rpartition(":")
    try:
        numbers = tuple(float(part) for part in position.split(","))
    except ValueError:
        numbers = ()
    if not separator or not label.strip() or len(numbers) != 3 or not np.isfinite(numbers).all():
        raise UsageError(f"--click {one_line(text, 60)}: should be a label and a position, as in spleen:120,85,40")
    return PointClick(label.strip(), numbers, space)


def _write_extras(session: "InteractiveSession", job: Job, volume: Volume, result: np.ndarray) -> None:
    if job.probabilities is not None:
        write_volume(job.probabilities, session.probabilities(), volume)
    if job.save_clicks is not None:
        write_clicks(job.save_clicks, session.clicks)
    if job.preview is not None:
        from PIL import Image

        from deepedit.inference.preview import preview

        plan = session.model.plan
        window = (plan.intensity.lower, plan.intensity.upper) if plan.intensity.mode == "window" else None
        picture = preview(volume, result, session.clicks, plan.labels, window)
        with replace_atomically(job.preview) as stream:
            Image.fromarray(picture).save(stream, "PNG")


def _volumes(result: np.ndarray, volume: Volume, labels: Labels) -> str:
    """The volume of each label, by which a nonsensical result is noticed first."""
    voxel_ml = abs(np.linalg.det(volume.affine[:3, :3])) / 1000
    sizes = np.bincount(labels.to_classes(result).ravel(), minlength=labels.num_classes)[1:] * voxel_ml
    found = [f"{name} {size:.3g} ml" for name, size in zip(labels.names, sizes, strict=True) if size]
    return ", ".join(found) or "no label found"


@contextlib.contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """A context in which errors get the name of the file in front, unless they name it already."""
    try:
        yield
    except DeepEditError as error:
        name = one_line(path)
        raise error if name in str(error) else type(error)(f"{name}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
