"""A session in a loop: segment one image, and correct it by what is typed.

python examples/session.py runs/phantom/model.pt case.nii.gz seg.nii.gz
"""

import sys

from deepedit import InteractiveSession
from deepedit.errors import DeepEditError

HELP = "type a label and a voxel (spleen 120 85 40), undo, or nothing to write the result and end"


def main(model: str, image: str, output: str) -> None:
    session = InteractiveSession.from_checkpoint(model)
    session.set_image(image)
    for note in session.notes:  # what is odd about the file's header
        print(f"note: {note}")
    session.predict()
    print(f"labels: background, {', '.join(session.model.plan.labels.names)}; {HELP}")
    while True:
        volumes = ", ".join(f"{name} {volume.ml:.1f} ml" for name, volume in session.volumes().items())
        words = input(f"{volumes}\n> ").split()
        if not words:
            break
        try:
            if words == ["undo"]:
                session.undo()
            else:
                *name, i, j, k = words
                changed = session.add_click((float(i), float(j), float(k)), " ".join(name))
                print("nothing changed" if changed is None else f"draw again: {changed}")
        except (DeepEditError, ValueError) as error:  # an error costs the line only; the session stays as it was
            print(f"{error}; {HELP}")
    session.save(output)
    print(f"wrote {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
