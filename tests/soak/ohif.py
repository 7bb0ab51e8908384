"""OHIF at work in a browser without a screen, beside Orthanc, with pictures of what its user sees.

    python -m tests.soak.ohif --screenshots FOLDER

An axial, a sagittal and an oblique acquisition of a ball are opened one after the other, the ball is clicked on, and
what OHIF sends and shows is held against where the ball is. Of each the folder gets the page with the click and the
answer, and the first view before the click, with it, and with the answer, side by side.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from deepedit.server.ohif import ohif_folder
from tests.io.dicom_files import PLACES
from tests.server.ohif_browser import CHROMIUM, check_mark, chromium, click_at_landmark, landmark_served
from tests.server.orthanc import ORTHANC


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--screenshots", type=Path, required=True, metavar="FOLDER", help="for the pictures")
    chosen = options.parse_args()
    for what, there in (("Orthanc", ORTHANC), ("Chromium", CHROMIUM), ("OHIF", ohif_folder())):
        if there is None:
            options.error(f"{what} is not installed")
    chosen.screenshots.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for place in PLACES:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            with tempfile.TemporaryDirectory() as name, landmark_served(Path(name), place) as (live, address):
                seen = click_at_landmark(page, live, address)
                page.close()
            (chosen.screenshots / f"{place}.png").write_bytes(seen.screen)
            views = np.concatenate([seen.before, seen.clicked, seen.after], axis=1)
            Image.fromarray(views).save(chosen.screenshots / f"{place}-views.png")
            check_mark(seen, place)
            print(f"{place}: the click was sent as voxel {seen.voxel}, and the answer lies around it")


if __name__ == "__main__":
    main()
