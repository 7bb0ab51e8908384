"""A browser for each module: while one runs, no other event loop can run in its thread."""

import pytest


@pytest.fixture(scope="module")
def browser():
    # Here, as it skips the module that imports it where there is no browser, and a conftest cannot be skipped.
    from tests.server.page.browser import started

    with started() as browser:
        yield browser
