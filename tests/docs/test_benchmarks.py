"""Every command on the pages of measurements runs, with small sizes."""

import pytest

from tests.docs.pages import MEASURING, PAGES, to_run
from tests.docs.reader import read, shell


@shell
@pytest.mark.parametrize("block", to_run(page for page in PAGES if page.stem in MEASURING), ids=str)
def test_what_a_page_shows_runs(block, tmp_path):
    read(block, tmp_path)
