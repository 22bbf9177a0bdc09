"""What `models/<name>/manifest.json` says of the ONNX file beside it."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from derain.errors import ModelError
from derain.tiling import QUARTERS

MANIFEST_NAME = "manifest.json"

Views = Literal[1, 2, 4]  # of a picture: as it is; 2: and left to right; 4: both also upside down


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFile(_Part):
    """The ONNX file, so that another one in its place is noticed."""

    name: str = Field(pattern=r"^[\w.-]+\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)
    opset: int


class Overview(_Part):
    """What a network takes besides a tile: windows of the picture that the tile is of, all of one size.

    One is the middle of the picture; more are spread over it (`derain.tiling.spread`) and come one after the
    other in the channels, (N, 3 x windows, H, W).
    """

    longest_px: int = Field(ge=1)  # of a side
    alignment_px: int = Field(ge=1)  # sides are multiples of it; the last row and column are repeated
    windows: int = Field(default=1, ge=1)

    @property
    def is_placed(self) -> bool:
        """Whether the network also takes where each cell of the tile lies (`derain.tiling.place`).

        It does where there is a window of each quarter of the picture.
        """
        return self.windows == QUARTERS


class InputContract(_Part):
    """What the network takes; it returns the same. The only contract there is, spelt out."""

    layout: Literal["NCHW"] = "NCHW"
    channels: Literal["RGB"] = "RGB"
    dtype: Literal["float32"] = "float32"
    lowest: Literal[0] = 0
    highest: Literal[1] = 1
    alignment_px: int = Field(ge=1)  # height and width are multiples of it
    # In a second input, of the same layout, channels and range; where it is placed, (N, 2, rows, columns) of
    # cells of `alignment_px` in a third.
    overview: Overview | None = None

    @property
    def is_placed(self) -> bool:
        return self.overview is not None and self.overview.is_placed


class Parity(_Part):
    """How closely the file agrees with the network it was made from."""

    sizes: list[tuple[int, int]]  # height, width
    max_difference: float  # over all pixels of all sizes, on a scale of 0 to 1


class _Origin(_Part):
    """The model that this one was made of without training."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of its ONNX file


class Mirrored(_Origin):
    """The model that this one runs on a picture and on its mirror images, to return the mean.

    Each enlarged before it, and what it takes off made smaller again.
    """

    views: Views
    enlarged: float = Field(default=1, ge=1)  # times each side

    @property
    def how(self) -> Literal["mirrored", "enlarged"]:
        return "mirrored" if self.views > 1 else "enlarged"


class Quantised(_Origin):
    """The model whose inner convolutions this one computes in 8-bit integers."""

    windows: int  # rainy pictures by which the ranges of its activations were found


class Extreme(_Part):
    """The image that came out worst."""

    name: str
    db: float


class Gain(_Part):
    """What rainy images gained over the input, in dB."""

    mean: float
    worst: Extreme
    harmed: int  # images that came out worse than the input, by more than 0.3 dB


class CleanBack(_Part):
    """How clean images came back. No mean: one that comes back identical has no PSNR."""

    images: int  # each once, however many rainy ones there are of it
    identical: int
    below_40: int  # dB
    below_30: int
    worst: Extreme | None  # None: all came back identical
    median_changed: float | None  # dB, of those that did not come back identical


class Evaluation(_Part):
    """Mean scores over one set of pictures; see training/metrics.py. None: not measurable there."""

    name: str
    role: Literal["validation", "test"]
    pictures: int
    psnr: float | None  # dB
    ssim: float | None
    input_psnr: float | None  # dB
    removal: float | None  # eta
    rain_change: float | None  # E_R
    background_error: float | None  # E_B, off all rain (over 10 of 255)
    background_error_50: float | None  # E_B, off bright rain (over 50 of 255)

    # Manifests of earlier versions have none of these.
    psnr_y: float | None = None  # dB, of the luma
    ssim_y: float | None = None
    input_psnr_y: float | None = None  # dB
    restored: float | None = None  # rho
    rain_error: float | None = None  # E_R^GT
    ms_per_megapixel: float | None = None  # median over the pictures
    measured_on: str | None = None  # what took that time

    # Nor of these.
    kind: str | None = None  # of rain; None where it does not count in the mean over kinds
    tone_changed: bool = False  # with the rain: its gain is counted tone-fitted
    tone_fitted_psnr: float | None = None  # dB
    input_tone_fitted_psnr: float | None = None  # dB
    rainy: int | None = None  # images that have rain, of `pictures`
    gain: Gain | None = None  # by PSNR
    tone_fitted_gain: Gain | None = None  # by tone-fitted PSNR
    untouched: int | None = None  # rainy images that came back identical
    gain_kept: float | None = None  # of enlarged images: the share of the gain that they have as they are
    clean: CleanBack | None = None

    # Earlier versions alone have it: a mean in which a clean image that came back identical had 100 dB.
    clean_psnr: float | None = None

    @property
    def counted_gain(self) -> Gain | None:
        return self.tone_fitted_gain if self.tone_changed else self.gain


class Manifest(_Part):
    """A model: the file, how to feed it, where it comes from, how good it is."""

    version: Literal[1] = 1
    name: str = Field(pattern=r"^[\w.-]+$")
    created: datetime
    file: ModelFile
    input: InputContract
    overlap_px: int = Field(ge=0)  # the receptive radius: what tiles must overlap by
    parameters: int
    kmac_per_pixel: float  # thousands of multiply-adds an input pixel costs
    parity: Parity
    recipe: dict[str, Any]
    commit: str  # of the code that trained it
    evaluations: list[Evaluation]
    # Where both are None, the file is the network that the recipe trained.
    mirrored_from: Mirrored | None = None
    quantised_from: Quantised | None = None

    @property
    def is_made_of_another(self) -> bool:
        """Whether it has no weights of its own, and can be made anew without training."""
        return self.mirrored_from is not None or self.quantised_from is not None


def load_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder, its ONNX file verified against it.

    Raises ModelError where either is missing, does not parse, or does not fit the other.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ModelError(f"no model at {folder}: {MANIFEST_NAME} is missing")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise ModelError(
            f"{path} is not a manifest this version can read: {place}: {first['msg']}"
        ) from error
    _verify(folder / manifest.file.name, manifest.file)
    return manifest


def describe_file(path: Path, opset: int) -> ModelFile:
    data = path.read_bytes()
    return ModelFile(name=path.name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), opset=opset)


def _verify(path: Path, expected: ModelFile) -> None:
    if not path.is_file():
        raise ModelError(f"{path} is missing")
    found = describe_file(path, expected.opset)
    if found != expected:
        raise ModelError(
            f"{path} is not the file its manifest describes: {found.bytes} bytes, SHA-256 {found.sha256}; "
            f"expected {expected.bytes} bytes, {expected.sha256}"
        )
