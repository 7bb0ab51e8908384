"""Reading and writing files: the only place that knows paths and formats."""

from deepedit.io.volumes import read_geometry, read_label, read_volume, write_label, write_volume

__all__ = ["read_geometry", "read_label", "read_volume", "write_label", "write_volume"]
