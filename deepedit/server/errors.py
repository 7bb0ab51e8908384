"""What goes wrong with a request, in one sentence for whoever sent it, and the status that goes with it."""

from deepedit.errors import DeepEditError


class NotFound(DeepEditError):
    """There is nothing of that name."""

    status = 404


class Lost(NotFound):
    """It was sent, and is no longer kept.

    Args:
        what: ``image`` or ``start``; clients send it again.
    """

    def __init__(self, what: str, sentence: str) -> None:
        super().__init__(sentence)
        self.facts = {"lost": what}


class Busy(DeepEditError):
    """It is being done already."""

    status = 429


class Changed(DeepEditError):
    """It is not any more what whoever sent the request saw."""

    status = 409


class TooLarge(DeepEditError):
    """More than the server takes."""

    status = 413


class Unavailable(DeepEditError):
    """It cannot be done now, and may be later."""

    status = 503
