"""What a page asks about a segmentation: the bodies of its requests, checked."""

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from deepedit.errors import DeepEditError
from deepedit.files import one_line
from deepedit.server.data import read_json
from deepedit.server.questions import LARGEST_VOXEL

Name = Annotated[str, Field(min_length=1, max_length=300)]
Index = Annotated[StrictInt, Field(ge=-LARGEST_VOXEL, le=LARGEST_VOXEL)]
Click = tuple[Name, tuple[Index, Index, Index]]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StepSent(Strict):
    """One step: clicks that are answered together, a label that is locked, or one that is unlocked."""

    clicks: list[Click] | None = Field(None, description="label, and voxel of the file's grid, of each")
    lock: Name | None = None
    unlock: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> "StepSent":
        if len(self.model_fields_set) != 1 or None in (getattr(self, name) for name in self.model_fields_set):
            raise ValueError("a step has one of clicks, lock and unlock")
        return self


class StartSent(Strict):
    """What the steps begin with."""

    kind: Literal["automatic", "empty", "submitted label", "original label", "sent"] = "automatic"
    key: Name | None = Field(default=None, description="of `PUT api/start`, where the kind is `sent`")


class Asked(Strict):
    """A segmentation: the image, what it begins with, and all steps in order."""

    model: Name = "deepedit"
    image: Name | None = Field(None, description="id of an image of the studies")
    session_id: Name | None = Field(None, description="key of an image that is kept, in the place of `image`")
    start: StartSent = StartSent()
    tta: bool = Field(False, description="test-time augmentation")
    steps: list[StepSent] = []
    known: Name | None = Field(
        None, description="`state` of the answer that the page shows now; no other one is saved or submitted"
    )
    request: Name | None = Field(None, description="chosen by the page, for `GET api/progress`")


class Saved(Asked):
    """As `Asked`, and the format of the file."""

    suffix: Name = Field(".nii.gz", description="`.nii.gz`, `.nii`, `.seg.nrrd`, `.nrrd` or `.mha`")


async def read_asked(request: Request, kind: type[Asked] = Asked) -> Any:
    """The body of a request.

    Raises:
        DeepEditError: if it is not as `kind` says.
    """
    sent = await read_json(request)
    try:
        return kind.model_validate(sent)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = one_line(".".join(map(str, first["loc"])), 100) or "step"
        raise DeepEditError(f"the request is not as it should be: {where}: {one_line(first['msg'], 200)}") from error
    except RecursionError as error:
        raise DeepEditError("the request is nested too deeply") from error
