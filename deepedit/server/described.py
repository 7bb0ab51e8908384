"""What OpenAPI tells of requests and answers that FastAPI does not read or write itself."""

from typing import Any

from pydantic import BaseModel, Field

Span = tuple[int, int]


class Header(BaseModel):
    """The header of a binary answer."""

    state: str = Field(description="what is shown now: a digest of the image, the start and the steps")
    whole: bool = Field(description="the box holds all that is not background; else nothing changed outside of it")
    box: tuple[Span, Span, Span] = Field(description="first voxel and the one after the last, of each display axis")
    volumes_ml: dict[str, float]
    changed_ml: dict[str, float] = Field(description="by how much the last step changed the volume of each label")
    locked: list[str]
    obeyed: bool | None = Field(description="whether the network's answer alone had the label at the last click")
    notes: list[str]
    seconds: dict[str, float]


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """How a request with such a body is described."""
    return _body("application/json", schema_of(kind))


def object_of(**properties: str) -> dict[str, Any]:
    """How a request is described whose body is JSON with these fields, of these types, all of them required."""
    fields = {name: {"type": kind} for name, kind in properties.items()}
    return _body("application/json", {"type": "object", "properties": fields, "required": list(fields)})


def form_with(field: str) -> dict[str, Any]:
    """How a request is described whose body is a form with a file."""
    file = {"type": "string", "format": "binary"}
    return _body("multipart/form-data", {"type": "object", "properties": {field: file}, "required": [field]})


def file_body() -> dict[str, Any]:
    """How a request is described whose body is a file."""
    return _body("application/octet-stream", {"type": "string", "format": "binary"})


def binary(what: str, header: type[BaseModel] | None = None) -> dict[int | str, dict[str, Any]]:
    """How an answer is described that is no JSON.

    Args:
        header: its beginning: four bytes that tell the length of it, the lowest first, and JSON.
    """
    content = {"schema": {"type": "string", "format": "binary"}}
    if header is not None:
        content["x-header"] = schema_of(header)
    return {200: {"description": what, "content": {"application/octet-stream": content}}}


def schema_of(kind: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model, complete in itself."""
    schema = kind.model_json_schema()
    return _spelt_out(schema, schema.pop("$defs", {}))


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def _spelt_out(schema: Any, parts: dict[str, Any]) -> Any:
    """A JSON schema in which each reference to another one is replaced by that."""
    if isinstance(schema, list):
        return [_spelt_out(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _spelt_out(value, parts) for key, value in schema.items() if key != "$ref"}
    if "$ref" in schema:
        found = _spelt_out(parts[schema["$ref"].rpartition("/")[2]], parts) | found
    return found
