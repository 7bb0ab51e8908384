"""Interactive 3D segmentation: one network that segments by itself, from clicks, and by correction."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; `__getattr__` does the same on demand
    from deepedit.clicks import Clicks, chessboard_distance, error_regions, render_guidance, sample_clicks
    from deepedit.evaluation import evaluate_dataset
    from deepedit.inference.session import InteractiveSession
    from deepedit.io.volumes import read_volume, write_label
    from deepedit.network.checkpoint import load_model, save_model
    from deepedit.network.export import export_torchscript
    from deepedit.network.unet import ResidualUNet
    from deepedit.volume import Volume

__version__ = "0.1.0"

_PUBLIC = {
    "Clicks": "deepedit.clicks",
    "InteractiveSession": "deepedit.inference.session",
    "ResidualUNet": "deepedit.network.unet",
    "Volume": "deepedit.volume",
    "chessboard_distance": "deepedit.clicks",
    "error_regions": "deepedit.clicks",
    "evaluate_dataset": "deepedit.evaluation",
    "export_torchscript": "deepedit.network.export",
    "load_model": "deepedit.network.checkpoint",
    "read_volume": "deepedit.io.volumes",
    "render_guidance": "deepedit.clicks",
    "sample_clicks": "deepedit.clicks",
    "save_model": "deepedit.network.checkpoint",
    "write_label": "deepedit.io.volumes",
}

__all__ = [
    "Clicks",
    "InteractiveSession",
    "ResidualUNet",
    "Volume",
    "chessboard_distance",
    "error_regions",
    "evaluate_dataset",
    "export_torchscript",
    "load_model",
    "read_volume",
    "render_guidance",
    "sample_clicks",
    "save_model",
    "write_label",
]


def __getattr__(name: str) -> Any:
    # On demand, so that a program that only reads a volume does not wait for torch.
    if name not in _PUBLIC:
        raise AttributeError(f"module 'deepedit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
