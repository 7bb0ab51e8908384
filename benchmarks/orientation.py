"""One volume stored in several orientations, clicked at the same points in the patient: results must agree.

    python -m benchmarks.orientation --model RUN/model.pt --input DATASET

For each validation case: the automatic result and the annotator's clicks on the file as it is, then the same clicks,
given in mm, on the volume stored as RAS, LPS and PIR, and with a rotation in its affine (the array unchanged, the
points rotated alike). Prints the mean Dice of every orientation and the largest difference of any case's.
"""

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from benchmarks.options import add_shared, parser
from deepedit.inference.annotation import annotate
from deepedit.inference.session import InteractiveSession
from deepedit.io.msd import find_dataset, read_case
from deepedit.io.nifti import read_label
from deepedit.metrics import dice
from deepedit.volume import Volume

ROTATION = np.radians(12)


def stored_as(volume: Volume, codes: str) -> Volume:
    """The same volume with its axes permuted and flipped to an orientation such as ``"LPS"``."""
    change = ornt_transform(io_orientation(volume.affine), axcodes2ornt(codes))
    data = np.ascontiguousarray(apply_orientation(volume.data, change))
    return Volume(data, volume.affine @ inv_ornt_aff(change, volume.shape))


def rotated(volume: Volume, matrix: np.ndarray) -> Volume:
    """The same array, the patient turned about the scanner's origin."""
    return Volume(volume.data, matrix @ volume.affine)


def replay(session: InteractiveSession, image: Volume, points: list, truth: np.ndarray) -> float:
    """Mean Dice of the labels after clicks at points in RAS mm."""
    session.set_image(image)
    for point, name in points:
        session.add_click(point, name, space="ras")
    classes = session.model.plan.labels.to_classes(session.predict())
    return float(np.mean([dice(classes == c, truth == c) for c in range(1, session.model.plan.labels.num_classes)]))


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--model", "--input")
    add_shared(options, "--max-clicks", default=5, help="clicks for each case (default: %(default)s)")
    add_shared(options, "--device")
    arguments = options.parse_args()
    session = InteractiveSession.from_checkpoint(arguments.model, arguments.device)
    labels = session.model.plan.labels
    cases = [case for case in find_dataset(arguments.input).cases if case.name in session.model.validation_cases]
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(ROTATION), -np.sin(ROTATION)], [np.sin(ROTATION), np.cos(ROTATION)]]
    found: dict[str, list[float]] = {}
    for case in cases:
        image = read_case(case)
        truth = Volume(labels.to_classes(read_label(case.label).data), image.affine)
        session.set_image(image)
        rounds = list(annotate(session, truth.data, arguments.max_clicks))[1:]
        points = [(image.affine[:3, :3] @ r.voxel + image.affine[:3, 3], labels.class_names[r.label]) for r in rounds]
        found.setdefault("as it is", []).append(replay(session, image, points, truth.data))
        for codes in ("RAS", "LPS", "PIR"):
            result = replay(session, stored_as(image, codes), points, stored_as(truth, codes).data)
            found.setdefault(codes, []).append(result)
        moved = [(turn[:3, :3] @ point + turn[:3, 3], name) for point, name in points]
        found.setdefault("rotated", []).append(replay(session, rotated(image, turn), moved, truth.data))
    print(f"{len(cases)} cases, {arguments.max_clicks} clicks")
    for name, scores in found.items():
        difference = np.abs(np.array(scores) - found["as it is"]).max()
        print(f"{name:<10} mean Dice {np.mean(scores):.4f}   largest difference {difference:.4f}")


if __name__ == "__main__":
    main()
