"""What `import deepedit` gives, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import deepedit


def loaded_by(statement):
    program = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


def test_every_public_name_is_there():
    for name in deepedit.__all__:
        assert getattr(deepedit, name) is not None
    assert set(dir(deepedit)) == set(deepedit.__all__)


def test_editors_are_told_of_the_names_that_are_there():
    """What is imported for type checkers alone is what `__getattr__` gives, from the same modules."""
    (shown,) = [node for node in ast.parse(Path(deepedit.__file__).read_text()).body if isinstance(node, ast.If)]
    told = {name.name: node.module for node in shown.body for name in node.names}
    assert set(told) == set(deepedit.__all__)
    assert told == deepedit._PUBLIC


def test_importing_the_package_waits_for_nothing_heavy():
    names = ", ".join(deepedit.__all__)
    loaded = loaded_by(f"from deepedit import {names}")
    assert not {"scipy", "tensorboard", "nibabel", "matplotlib", "SimpleITK"} & loaded
    assert "monai" not in loaded


def test_rooms_do_not_import_each_other():
    rooms = {"io", "transforms", "clicks", "network"}
    for room in rooms:
        names = sorted(path.stem for path in (Path(deepedit.__file__).parent / room).glob("[a-z]*.py"))
        loaded = loaded_by("\n".join(f"import deepedit.{room}.{name}" for name in names))
        found = {name.split(".")[1] for name in loaded if name.startswith("deepedit.")}
        others = (rooms - {room, "clicks"}) | {"training", "inference", "evaluation"}
        assert not found & others, room


def test_what_every_room_may_know_imports_no_room():
    shared = sorted(path.stem for path in Path(deepedit.__file__).parent.glob("[a-z]*.py"))
    loaded = loaded_by("\n".join(f"import deepedit.{name}" for name in shared))
    found = {name.split(".")[1] for name in loaded if name.startswith("deepedit.")}
    assert found == set(shared)
