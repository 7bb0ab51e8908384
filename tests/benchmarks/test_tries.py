"""The command that repeats what was tried in training."""

import pytest

from benchmarks.tries.__main__ import configured, main
from deepedit.io.phantom import write_phantom
from tests.forked import Forked


def test_settings_of_the_run_and_of_its_augmentation_are_told_apart():
    config = configured(3, ["click_loss_sigma=9", "rotation_probability=0.6", "scaling=0.7+1.4"])
    assert (config.seed, config.click_loss_sigma, config.batch_size) == (3, 9.0, 4)
    assert (config.augmentation.rotation_probability, config.augmentation.scaling) == (0.6, (0.7, 1.4))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("tries") / "phantom", 3, shape=(20, 20, 20), spacing=(8, 8, 8))


# Together these go through every function that is replaced; a process each, since they replace those of the package.
@pytest.mark.parametrize(
    "changes",
    [
        ["two-widths=1.5+6", "novice-edits", "newest-loss"],
        ["cone=12", "plain+bent=1.2", "reach=10"],
        ["newest-higher=0.5", "plain+novice"],
        ["plain+grown=0.15", "harder=0.5", "dropout=0.1", "whole-edits"],
        ["plain+level", "spoiled-edits", "guidance-last", "average=0.5"],
        ["deep", "bank=3", "mirror-anyway", "twice"],
    ],
)
def test_a_run_with_a_change_ends_after_its_steps_and_tells_what_its_clicks_repair(dataset, tmp_path, changes):
    arguments = ["--input", dataset, "--output", tmp_path / "run", "--device", "cpu", "--steps", 8]
    arguments += ["--patch-size", "16,32,32", "--split", 0.99, "--set", "clicks_from=0"]
    for change in changes:
        arguments += ["--try", change]
    process = Forked(main, arguments, tmp_path)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "step 8 " in said
    assert [line.split()[0] for line in said.splitlines()[-2:]] == ["automatic", "0.60,0.75"]
