"""What can go wrong through no fault of the program: each message names the thing, the problem and the mend.

Where that is a parameter, its name stands in backticks, as `patch_size`; the command lines put their option there.
"""


class DeepEditError(Exception):
    """Base of all errors that a user can mend. The command lines print it as one line and exit with status 2."""


class FileError(DeepEditError):
    """A file that cannot be read, cannot be written, or does not hold what was asked for."""


class DatasetError(DeepEditError):
    """A dataset folder whose files do not fit together; the message lists every problem found."""


class ClickError(DeepEditError):
    """A click outside the image, for a label that the model does not know, or into a locked label."""


class ModelError(DeepEditError):
    """A model file that cannot be used: damaged, too new, or made for something else."""


class ImageTooLargeError(DeepEditError):
    """An image whose segmentation would take more memory than is free."""


class Cancelled(DeepEditError):
    """A call that was cancelled while it worked; it changed nothing."""


class TrainingError(DeepEditError):
    """Training that cannot start or go on."""
