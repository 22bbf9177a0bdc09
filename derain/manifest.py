"""What `models/<name>/manifest.json` says of the ONNX files beside it."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from derain.errors import ModelError

MANIFEST_NAME = "manifest.json"

M = TypeVar("M", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFile(_Part):
    """An ONNX file, with the hash that it is checked by."""

    name: str = Field(pattern=r"^[\w.-]+\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)
    opset: int


class InputContract(_Part):
    """What the network takes; it returns the same. The only contract there is, spelt out."""

    layout: Literal["NCHW"] = "NCHW"
    channels: Literal["RGB"] = "RGB"
    dtype: Literal["float32"] = "float32"
    lowest: Literal[0] = 0
    highest: Literal[1] = 1
    alignment_px: int = Field(ge=1)  # height and width are multiples of it


class Estimator(_Part):
    """The rain estimator: an ONNX file of its own, run once for each image and scale.

    It takes windows of the image as the network takes tiles, and returns of each a rain descriptor,
    (N, `numbers`), and the log-odds that there is any rain, (N,). The network's second input is the mean
    descriptor.
    """

    file: ModelFile
    alignment_px: int = Field(ge=1)  # sides of windows are multiples of it; the last row and column go on
    context_px: int = Field(ge=1)  # side of a window (`derain.inference.context`)
    numbers: int = Field(ge=1)  # of the descriptor
    dry_below: float  # an image with mean log-odds below this comes back as it was


class Parity(_Part):
    """How closely the file agrees with the network it was made from."""

    sizes: list[tuple[int, int]]  # height, width
    max_difference: float  # over all pixels of all sizes, on a scale of 0 to 1


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
    """Mean scores over one set of images, of training/evaluation/metrics.py. None: not measurable there."""

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
    ms_per_megapixel: float | None = None  # median over the images
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

    @property
    def counted_gain(self) -> Gain | None:
        return self.tone_fitted_gain if self.tone_changed else self.gain


class Manifest(_Part):
    """A model: the files, how to feed them, where it comes from, how good it is."""

    version: Literal[2] = 2
    name: str = Field(pattern=r"^[\w.-]+$")
    created: datetime
    file: ModelFile
    input: InputContract
    estimator: Estimator | None = None  # None: a network that takes no descriptor
    longest_px: int | None = (
        None  # larger images are derained at coarser scales first (`derain.inference.scales`)
    )
    overlap_px: int = Field(ge=0)  # the receptive radius: what tiles must overlap by
    parameters: int
    kmac_per_pixel: float  # thousands of multiply-adds an input pixel costs
    parity: Parity
    recipe: dict[str, Any]
    commit: str  # of the code that trained it
    evaluations: list[Evaluation]

    @property
    def sha256(self) -> str:
        """What tells the model from any other: the hash of its file, or of the hashes of its files."""
        if self.estimator is None:
            return self.file.sha256
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()

    @property
    def files(self) -> list[ModelFile]:
        """The ONNX files of the model."""
        return [self.file] if self.estimator is None else [self.file, self.estimator.file]


def load_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder, its ONNX files verified against it.

    Raises ModelError where either is missing, does not parse, or does not fit the other.
    """
    manifest = read_manifest(folder / MANIFEST_NAME, Manifest)
    for file in manifest.files:
        check_file(folder / file.name, file)
    return manifest


def read_manifest(path: Path, described: type[M]) -> M:
    """Raises ModelError where it is missing or does not parse."""
    if not path.is_file():
        raise ModelError(f"no model at {path.parent}: {path.name} is missing")
    try:
        return described.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise ModelError(
            f"{path} is not a manifest this version can read: {place}: {first['msg']}"
        ) from error


def describe_file(path: Path, opset: int) -> ModelFile:
    data = path.read_bytes()
    return ModelFile(name=path.name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), opset=opset)


def check_file(path: Path, expected: ModelFile) -> None:
    """Raises ModelError where it is missing, or not the one that is described."""
    if not path.is_file():
        raise ModelError(f"{path} is missing")
    found = describe_file(path, expected.opset)
    if found != expected:
        raise ModelError(
            f"{path} is not the file its manifest describes: {found.bytes} bytes, SHA-256 {found.sha256}; "
            f"expected {expected.bytes} bytes, {expected.sha256}"
        )
