"""What a caller can say about the answer to an image."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from derain.errors import UnsupportedFormatError
from derain.images.formats import FORMATS, ImageFormat, named_format

_WRITABLE = tuple(known.name.lower() for known in FORMATS if known.writable)


class Options(BaseModel):
    """Each field is a parameter of the API: its name, its range, and what is said of it."""

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
        1.0, ge=0, le=1, allow_inf_nan=False, description="0 is the image that came, 1 the derained one."
    )
    model: str | None = Field(None, max_length=100, description="One of /v1/models instead of the default.")
    metadata: Literal["keep", "strip"] = Field(
        "keep", description="EXIF without place, maker's notes and thumbnail, or none at all."
    )
    force: bool = Field(
        False, description="Derain even where no rain is found, and the image would come back as it was."
    )
    explain: bool = Field(False, description="Answer with what was taken away, as an image.")

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
        """The format that is asked for outright."""
        return None if self.format is None else named_format(self.format)

    @property
    def keep_metadata(self) -> bool:
        return self.metadata == "keep"
