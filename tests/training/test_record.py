"""A run's config.json: all settings come back as they were, whatever the defaults are now."""

import copy
import json
import shutil
import subprocess
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deepedit.clicks import Annotator
from deepedit.errors import DeepEditError, TrainingError
from deepedit.network.architectures import NETWORKS, UNetConfig
from deepedit.plan import Intensity
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit.training.record import _git_commit, _read, read_config, write_config
from deepedit.transforms.augmentation import Augmentation
from tests.training.configs import ARGUMENTS, TRAINING, changed_defaults

CHOSEN = RunSettings(
    Path("data"),
    studies=True,
    labels={"spleen": 2, "ignore": 3},
    split=0.8,
    split_seed=3,
    spacing=(1.5, 1.5, 3.0),
    patch_size=(96, 96, 48),
    intensity=Intensity("zscore", 1.0, 99.0),
    affine="qform",
    units="mm",
    network=UNetConfig((4, 8), (1, (2, 2, 1)), (3, 5), affine=False, first_shortcut=True),
    init_weights=Path("model.pt"),
    cache=Path("cache"),
    workers=5,
    config=TrainingConfig(
        epochs=3,
        batch_size=6,
        accumulate=2,
        validations=1,
        max_minutes=12.5,
        checkpointing=True,
        learning_rate=1e-3,
        warmup=0.1,
        weight_decay=0.0,
        small_patches=0.0,
        click_probability=0.5,
        clicks_from=0.3,
        max_clicks=4,
        edit_probability=0.1,
        redraw_probability=0.2,
        click_loss=2.0,
        click_loss_sigma=1.0,
        click_sigma=3.0,
        refiner_cases=7,
        ema_decay=0.9,
        amp="off",
        record_passes=False,
        limit=7,
        seed=5,
        annotator=Annotator(deepest=0.1, centre=0.2, jitter=3, neighbour=0.4, redundant=0.5),
        augmentation=Augmentation(0.1, 0.9, 10.0, (0.5, 2.0), 0.1, 0.3, 0.2, 0.4, (0.5, 2.0), (0.6, 1.6), 0.2),
    ),
)


def everything(settings):
    """Each setting and its name, those of settings within settings too."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        yield each.name, value
        if is_dataclass(value):
            yield from everything(value)


def test_the_settings_above_are_none_of_the_defaults():
    usual = replace(RunSettings(Path("other")), intensity=Intensity())
    for (name, value), (_, default) in zip(everything(CHOSEN), everything(usual), strict=True):
        assert value != default, name


@pytest.mark.parametrize("settings", [CHOSEN, RunSettings(Path("data"))], ids=["chosen", "default"])
def test_all_settings_come_back(tmp_path, settings):
    write_config(tmp_path, settings)
    assert read_config(tmp_path) == read_config(tmp_path / "config.json") == settings


def test_other_defaults_change_nothing_of_a_run_that_is_there(tmp_path, monkeypatch):
    before = RunSettings(Path("data"))
    write_config(tmp_path, before)
    changed_defaults(monkeypatch)
    assert RunSettings(Path("data")).config.annotator.deepest == 0.5
    assert RunSettings(Path("data")) != before
    assert read_config(tmp_path) == before


def write_arguments(folder, arguments, training):
    (folder / "config.json").write_text(json.dumps({"arguments": arguments, "training": training, "git": None}))


def test_the_file_of_a_version_that_told_the_arguments_is_read(tmp_path, monkeypatch):
    write_arguments(tmp_path, ARGUMENTS, TRAINING)
    changed_defaults(monkeypatch)
    settings = read_config(tmp_path)
    augmentation = {**TRAINING["augmentation"], **_tuples(), "mirror_probability": 0.0}
    del augmentation["flip_axes"]
    assert asdict(settings.config) == {**TRAINING, "refiner_cases": 0, "augmentation": augmentation}
    assert replace(settings, config=TrainingConfig()) == RunSettings(
        Path("data"),
        labels={"spleen": 2, "liver": 1},
        spacing=(2.0, 2.0, 3.0),
        network=NETWORKS["light"],
        cache=Path("elsewhere"),
        workers=3,
    )


def _tuples():
    return {name: tuple(TRAINING["augmentation"][name]) for name in ("scaling", "contrast", "gamma")}


def test_a_run_that_is_older_than_runs_on_studies_was_on_a_dataset(tmp_path):
    write_config(tmp_path, RunSettings(Path("data")))
    record = json.loads((tmp_path / "config.json").read_text())
    del record["settings"]["studies"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert read_config(tmp_path) == RunSettings(Path("data"))


def test_what_could_not_be_chosen_yet_is_what_was_done_then(tmp_path):
    arguments = {
        name: value for name, value in ARGUMENTS.items() if name not in ("affine", "units", "split_seed", "eager")
    }
    training = {name: value for name, value in TRAINING.items() if name not in ("small_patches", "record_passes")}
    write_arguments(tmp_path, {**arguments, "seed": 4}, {**training, "seed": 4})
    settings = read_config(tmp_path)
    assert (settings.affine, settings.units, settings.intensity) == (None, None, None)
    assert settings.split_seed == settings.config.seed == 4
    assert settings.config.small_patches == 0
    # The recipe was another one then, which is not there any more.
    del training["redraw_probability"]
    write_arguments(tmp_path, arguments, training)
    with pytest.raises(
        TrainingError, match=r"config\.json: config lacks redraw_probability; it was written by another"
    ):
        read_config(tmp_path)


def damaged(*path, value):
    """The record of a run, its entry at a path of keys replaced; taken out where the value is None."""
    settings = json.loads(json.dumps(asdict(CHOSEN), default=str))
    entries = settings
    for key in path[:-1]:
        entries = entries[key]
    if value is None:
        del entries[path[-1]]
    else:
        entries[path[-1]] = value
    return {"settings": settings}


RECORDS = {
    "no settings": ({"settings": 3}, "settings cannot be 3; it is damaged"),
    "neither": ({"command": []}, "not the config.json of a run; name one that deepedit-train wrote"),
    "missing": (
        damaged("config", "ema_decay", value=None),
        "config lacks ema_decay; it was written by another version",
    ),
    "unknown": (damaged("config", "annotator", "tremor", value=1), "annotator has tremor, which this version does not"),
    "text": (damaged("config", "epochs", value="ten"), "epochs cannot be 'ten'"),
    "bool": (damaged("config", "epochs", value=True), "epochs cannot be True"),
    "share": (damaged("config", "epochs", value=1.5), "epochs cannot be 1.5"),
    "list": (damaged("config", "annotator", value=[]), "annotator cannot be []"),
    "short": (damaged("spacing", value=[1.0, 2.0]), "spacing cannot be [1.0, 2.0]"),
    "of texts": (damaged("patch_size", value=["8", 8, 8]), "patch_size cannot be '8'"),
    "labels": (damaged("labels", value={"spleen": "1"}), "labels cannot be '1'"),
    "path": (damaged("dataset", value=7), "dataset cannot be 7"),
    "network": (damaged("network", "filters", value=[4]), "filters, strides and kernels need one entry for each"),
    "intensity": (damaged("intensity", "mode", value="none"), "intensity mode must be window"),
    "range": (damaged("config", "batch_size", value=0), "`batch_size` must be a whole number from 1 on; got 0"),
    "deep range": (damaged("config", "augmentation", "scaling", value=[0, 1]), "scaling is a range of numbers above 0"),
    "affine": (damaged("affine", value="mine"), "affine must be sform or qform"),
    "old arguments": ({"arguments": {**ARGUMENTS, "labels": 5}, "training": TRAINING}, "labels cannot be 5"),
    "old labels": ({"arguments": {**ARGUMENTS, "labels": "a"}, "training": TRAINING}, "`labels`: 'a' should be a name"),
    "old network": ({"arguments": {**ARGUMENTS, "network": []}, "training": TRAINING}, "network cannot be []"),
    "old training": ({"arguments": ARGUMENTS, "training": {**TRAINING, "amp": 1}}, "amp cannot be 1"),
    "a newer version's": (
        {"arguments": ARGUMENTS, "training": {**TRAINING, "later": 1}},
        "config has later, which this",
    ),
}


@pytest.mark.parametrize(("record", "said"), RECORDS.values(), ids=RECORDS)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, record, said):
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(TrainingError) as error:
        read_config(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'config.json'}: {said}")
    assert "\n" not in str(error.value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([2**70, 10**400]) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(data=st.data(), value=ANYTHING)
def test_whatever_is_in_it_gives_settings_or_one_error(data, value):
    # A path that a person wrote, such as "runs/", is written in another way than it was read.
    assume(not isinstance(value, str) or not value or str(Path(value)) == value)
    settings = json.loads(json.dumps(asdict(CHOSEN), default=str))
    entries, key = settings, data.draw(st.sampled_from(sorted(settings)))
    while isinstance(entries[key], dict) and data.draw(st.booleans()):
        entries, key = entries[key], data.draw(st.sampled_from(sorted(entries[key])))
    entries[key] = copy.deepcopy(value)
    try:
        read = _read(RunSettings, settings, "settings")
    except (DeepEditError, ValueError):
        return
    assert json.loads(json.dumps(asdict(read), default=str)) == settings


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_repository_that_tracks_the_package(tmp_path):
    def git(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    package, installed = tmp_path / "package" / "record.py", tmp_path / ".venv" / "record.py"
    for file in (package, installed):
        file.parent.mkdir()
        file.write_text("")
    assert _git_commit(package) is None
    git("init")
    git("add", "package")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "one")
    assert _git_commit(package) == git("rev-parse", "HEAD")
    # An environment inside somebody's repository is not of it.
    assert _git_commit(installed) is None
