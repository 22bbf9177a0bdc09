"""What a caller can say in the query of a request, or in fields of a form beside the file."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import QueryParams

from derain.errors import UnsupportedFormatError
from derain.images.formats import FORMATS, ImageFormat, named_format
from serving.problems import ParameterError

_WRITABLE = tuple(known.name.lower() for known in FORMATS if known.writable)

_SHOWN = 40  # letters of a value that cannot be


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str | None = Field(
        None,
        description="Of the answer, whatever Accept says; jpg and tif do as well.",
        json_schema_extra={"enum": list(_WRITABLE), "example": "png"},
    )
    quality: int | None = Field(
        None, ge=1, le=100, description="Of JPEG, WebP and AVIF; else about that of the file."
    )
    lossless: bool = Field(
        False, description="WebP and AVIF without loss; PNG, TIFF and BMP are so in any case."
    )
    strength: float = Field(
        1.0, ge=0, le=1, allow_inf_nan=False, description="0 is the picture that came, 1 the derained one."
    )
    model: str | None = Field(None, max_length=100, description="One of /v1/models instead of the default.")
    metadata: Literal["keep", "strip"] = Field(
        "keep", description="EXIF without place, maker's notes and thumbnail, or none at all."
    )
    force: bool = Field(
        False, description="Derain even where no rain is found, and the picture would come back as it was."
    )
    explain: bool = Field(False, description="Answer with what was taken away, as a picture.")

    @model_validator(mode="after")
    def _known_format(self) -> Self:
        try:
            if self.format is not None:
                named_format(self.format)
        except UnsupportedFormatError as error:
            raise ValueError(f"input should be one of {', '.join(_WRITABLE)}") from error
        return self

    @property
    def target(self) -> ImageFormat | None:
        return None if self.format is None else named_format(self.format)


def with_fields(query: QueryParams, fields: Iterable[tuple[str, str]]) -> QueryParams:
    """A form's fields as well, but for those that the query has a value for."""
    said = set(query)
    return QueryParams([*query.multi_items(), *((name, value) for name, value in fields if name not in said)])


def read_parameters(query: QueryParams) -> Parameters:
    """Raises ParameterError for one that there is not, one said twice, or a value it cannot have."""
    items = query.multi_items()
    names = [name for name, _ in items]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ParameterError(f"the parameter {twice!r} is there twice")
    if unknown := next((name for name in names if name not in Parameters.model_fields), None):
        raise ParameterError(f"there is no parameter {unknown!r}, but {_listed(Parameters.model_fields)}")
    try:
        return Parameters.model_validate(dict(items))
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0] if first["loc"] else "format"
        message = first["msg"].removeprefix("Value error, ")
        wanted, given = message[0].lower() + message[1:], _shortened(query[str(name)])
        raise ParameterError(f"the parameter {name!r}: {wanted}, but is {given!r}") from error


def _shortened(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
