"""What goes wrong with a request, in one sentence for whoever sent it, and the status that goes with it."""

from deepedit.errors import DeepEditError


class NotFound(DeepEditError):
    """There is nothing of that name."""

    status = 404


class Busy(DeepEditError):
    """It is being done already."""

    status = 429


class TooLarge(DeepEditError):
    """More than the server takes."""

    status = 413


class Unavailable(DeepEditError):
    """It cannot be done now, and may be later."""

    status = 503
