"""How uncertain a model is about an image: the mean entropy of its automatic result."""

from collections.abc import Callable

from deepedit.inference.session import InteractiveSession
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.network.checkpoint import Model
from deepedit.server.scores import Images, IsCancelled, Score


def mean_uncertainty(model: Callable[[], Model], **options: object) -> Score:
    """A score of images by the model that is served at the time.

    Args:
        model: gives it.
        options: of `InteractiveSession`.

    Returns:
        A function of image files that returns the mean over all voxels of `InteractiveSession.uncertainty`, in [0, 1],
        and raises Cancelled within one window of being told to stop.
    """

    def score(images: Images, is_cancelled: IsCancelled) -> float:
        serving = model()
        session = InteractiveSession(serving, **options)
        session.set_image(read_case(Case("", images), serving.plan.reading))
        return float(session.uncertainty(cancelled=is_cancelled).mean(dtype="float64"))

    return score
