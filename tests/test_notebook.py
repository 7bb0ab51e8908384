import os
import tempfile
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "inference.ipynb"


@pytest.fixture
def notebook():
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed; pip install deepedit[dev]")
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_stored_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(notebook, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed; pip install deepedit[dev]")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed; pip install deepedit[dev]")
    jupyter_client = pytest.importorskip("jupyter_client", reason="it comes with nbclient; pip install deepedit[dev]")
    with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:
        kernel = {"kernel_name": "python3"}
        if os.name == "posix":
            # By files, since a port that is free now may be taken by another test before the kernel listens.
            kernel |= {"transport": "ipc", "ip": str(Path(sockets) / "kernel")}
        manager = jupyter_client.AsyncKernelManager(**kernel)
        client = nbclient.NotebookClient(notebook, timeout=1200, km=manager, resources=_in(tmp_path))
        client.execute(cleanup_kc=True)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    # On the network's grid, automatic, the initial segmentation, and one after each click (fewer if all became right).
    assert len(pictures) >= 4
    assert list(tmp_path.iterdir()) == []


def _in(folder):
    """Where the notebook's kernel runs."""
    return {"metadata": {"path": str(folder)}}
