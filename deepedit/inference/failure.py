"""One case that fails among several: what to say of it, and when not to go on."""

import torch

from deepedit.errors import DeepEditError, FileError
from deepedit.files import disk_is_full, one_line


def why_it_failed(error: Exception) -> str:
    """One line that tells why a case could not be done.

    Args:
        error: anything that working on the case raised.

    Raises:
        DeepEditError: where it says that a disk is full, as the next case would find it no emptier.
        BrokenPipeError: as it came; nobody reads what is said any more.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    if disk_is_full(error):
        raise error if isinstance(error, DeepEditError) else FileError(f"the disk is full ({one_line(error)})")
    if isinstance(error, DeepEditError):
        return one_line(error)
    reason, *_ = str(error).strip().splitlines() or [""]
    return no_memory(error) or one_line(f"failed unexpectedly ({type(error).__name__}: {reason})", 500)


def no_memory(error: Exception) -> str | None:
    """One line, if an error says that memory did not suffice; else None."""
    if isinstance(error, torch.OutOfMemoryError):
        return "too large for the memory of the GPU; crop or resample it, or use `device` cpu"
    # For a CPU torch has no class of its own.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)):
        return "too large for this machine's memory; crop or resample it"
    return None
