"""Every command and every Python block of README, CONTRIBUTING and docs runs, unless a table says why it does not."""

import pytest

from tests.docs.pages import MEASURING, NOT_RUN, PAGES, SHORTENED, blocks, stands_in, to_run
from tests.docs.reader import read, shell


@shell
@pytest.mark.parametrize("block", to_run(page for page in PAGES if page.stem not in MEASURING), ids=str)
def test_what_a_page_shows_runs(block, tmp_path):
    read(block, tmp_path)


def test_only_what_stands_on_a_page_is_left_out_or_shortened():
    shown = [words for page in PAGES for block in blocks(page, "bash") for words in block.commands]
    assert NOT_RUN.keys() <= {" ".join(words) for words in shown}
    assert SHORTENED.keys() == {key for key in SHORTENED for words in shown if stands_in(key, words)}
