"""How the simulated annotator of a training run clicks. It needs no torch, so that ``--help`` does not."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Annotator:
    """How the annotator of a training run clicks. The defaults describe a person of average care.

    Attributes:
        deepest: share of the clicks that are placed as `largest_error_click` places them. The settings below apply to
            the other clicks only.
        centre: share of the other clicks that are drawn near the middle of an error region, with P ~ exp(distance to
            the rim) - 1, as `sample_clicks` does; the rest fall anywhere in the region.
        jitter: greatest random displacement along each axis, in voxels.
        neighbour: share of the clicks that miss their region. Such a click is moved along a random axis as far as it is
            from the rim, so that it often lands in a neighbouring region, and then asks for the class there.
        redundant: share of the clicks on voxels that are already right; their class is drawn evenly among the classes
            that have such voxels.
    """

    deepest: float = 0.85
    centre: float = 0.8
    jitter: int = 1
    neighbour: float = 0.05
    redundant: float = 0.05

    def __post_init__(self) -> None:
        for name in ("deepest", "centre", "neighbour", "redundant"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1; got {getattr(self, name)}")
        if self.jitter < 0 or self.jitter != int(self.jitter):
            raise ValueError(f"jitter is a whole number of voxels from 0 on; got {self.jitter}")

    @classmethod
    def perfect(cls) -> "Annotator":
        """Every click in the deepest voxel of the largest error, as in evaluation."""
        return cls(deepest=1.0, centre=1.0, jitter=0, neighbour=0.0, redundant=0.0)

    @classmethod
    def steady(cls) -> "Annotator":
        """Every click drawn as `sample_clicks` draws it, without displacement."""
        return cls(deepest=0.0, centre=1.0, jitter=0, neighbour=0.0, redundant=0.0)
