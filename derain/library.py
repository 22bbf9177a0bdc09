"""Derain as a library: an image of any kind in, the same kind out, without the rain.

`from derain import derain, Derainer` is how it is used. The pixels of an image are uint8 or uint16, from 0 to
the highest number that the type has, (height, width) or (height, width, channels); colours are RGB.
"""

import os
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL.Image import Transpose

from derain.arrays import to_8_bits
from derain.errors import (
    CorruptImageError,
    FileError,
    ImageError,
    MissingFileError,
    OptionError,
    UnsupportedFormatError,
)
from derain.files import write_atomically
from derain.images.coded import Samples
from derain.images.encoding import encode_photo
from derain.images.formats import PNG, named_format
from derain.images.header import read_header
from derain.images.metadata.exif import read_exif
from derain.images.photo import DerainedPhoto, Photo, decode_photo, derain_photo
from derain.inference.engine import Engine
from derain.inference.sessions import Provider
from derain.models.registry import find_model
from derain.video.formats import can_read_videos
from derain.video.options import ClipOptions, DerainedVideo, NoteFrames

ImagePath: TypeAlias = str | os.PathLike[str]
ImageBytes: TypeAlias = bytes | bytearray | memoryview
ProviderName: TypeAlias = Provider | Literal["auto", "cpu", "cuda", "tensorrt"]
Levels = TypeVar("Levels", np.uint8, np.uint16)

# The mode in which the pixels of a Pillow image are derained and returned.
_MODES = {
    **{mode: mode for mode in ("L", "LA", "RGB", "RGBA", "I;16")},
    **dict.fromkeys(("1",), "L"),
    **dict.fromkeys(("La",), "LA"),
    **dict.fromkeys(("P", "RGBX", "YCbCr"), "RGB"),
    **dict.fromkeys(("PA", "RGBa"), "RGBA"),
    **dict.fromkeys(("I;16L", "I;16B", "I;16N"), "I;16"),
}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}

# By EXIF's orientation: what turns the image upright, and what turns it back.
_TURNS = {
    2: (Transpose.FLIP_LEFT_RIGHT, Transpose.FLIP_LEFT_RIGHT),
    3: (Transpose.ROTATE_180, Transpose.ROTATE_180),
    4: (Transpose.FLIP_TOP_BOTTOM, Transpose.FLIP_TOP_BOTTOM),
    5: (Transpose.TRANSPOSE, Transpose.TRANSPOSE),
    6: (Transpose.ROTATE_270, Transpose.ROTATE_90),
    7: (Transpose.TRANSVERSE, Transpose.TRANSVERSE),
    8: (Transpose.ROTATE_90, Transpose.ROTATE_270),
}


class DerainedImage:
    """What a file held, upright and without the rain: with its colour profile, EXIF, alpha and 16 bits.

    `numpy.asarray(image)` is the pixels, uint8 or uint16: (height, width) if the file was gray,
    (height, width, 3) if it was in colour, and with one channel more if it had transparency.
    """

    def __init__(self, derained: DerainedPhoto) -> None:
        self._photo = derained.photo
        self._rain_found = derained.rain_found

    @property
    def rain_found(self) -> bool | None:
        """Whether any rain was found; if not, the pixels are those of the file. None at a strength of 0."""
        return self._rain_found

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as Pillow has it."""
        height, width = self._photo.image.shape[:2]
        return width, height

    @property
    def format(self) -> str:
        """The format that the file was in, such as `JPEG`."""
        return self._photo.format.name

    def save(
        self,
        path: ImagePath,
        *,
        quality: int | None = None,
        lossless: bool = False,
        keep_metadata: bool = True,
    ) -> None:
        """Writes a file in the format that its suffix names: .jpg, .png, .webp, .tif, .bmp or .avif.

        `quality`, 1 to 100, is for JPEG, WebP and AVIF. Without metadata the colour profile stays. The file
        appears whole or not at all.

        Raises UnsupportedFormatError, ImageTooLargeError, OptionError or FileError.
        """
        target = Path(path)
        data = self.to_bytes(target.suffix, quality=quality, lossless=lossless, keep_metadata=keep_metadata)
        try:
            write_atomically(target, data)
        except OSError as error:
            raise FileError(f"{target} cannot be written: {error.strerror}") from error

    def to_bytes(
        self,
        format: str | None = None,
        *,
        quality: int | None = None,
        lossless: bool = False,
        keep_metadata: bool = True,
    ) -> bytes:
        """The file that `save` writes. None: in the format it came in (HEIC, which is only read: in JPEG)."""
        if quality is not None and not (isinstance(quality, int) and 1 <= quality <= 100):
            raise OptionError(f"the quality is a whole number from 1 to 100, not {quality!r}")
        target = self._photo.format.answer_format if format is None else named_format(format)
        return encode_photo(self._photo, target, quality, lossless, keep_metadata)

    def to_pil(self) -> PilImage.Image:
        """A Pillow image: L, LA, RGB, RGBA or I;16, with `exif` and `icc_profile` in its `info`.

        Pillow has 16 bits for gray alone: colours, and gray with alpha, are rounded to 8.
        """
        samples = _samples(self._photo)
        image = PilImage.fromarray(samples if samples.ndim == 2 else to_8_bits(samples))
        kept = {"icc_profile": self._photo.profile, "exif": self._photo.exif}
        image.info |= {name: value for name, value in kept.items() if value}
        return image

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(_samples(self._photo), dtype, copy=copy)

    def _repr_png_(self) -> bytes:
        """For notebooks."""
        return self.to_bytes("png")

    def __repr__(self) -> str:
        width, height = self.size
        return f"<{type(self).__name__} {self.format} {width}x{height}>"


@dataclass(frozen=True)
class _How:
    """How an image is to be derained."""

    strength: float
    force: bool  # whether rain is found or not


class Derainer:
    """A model, loaded once for many images. Safe to call from several threads at once, one image each.

    `model` is the name of one that comes with Derain (`base`, `fast`) or a model folder; None is the one that
    was promoted. `provider` is `auto` (CUDA where it works, else the CPU), `cpu`, `cuda` or `tensorrt`.
    `threads` are those of the CPU, by default one a core, up to 16. A forked process needs a
    Derainer of its own.

    Raises ModelError for what is no model, ProviderError for a provider that is not there, OptionError.
    """

    def __init__(
        self,
        model: ImagePath | None = None,
        *,
        provider: ProviderName = "auto",
        threads: int | None = None,
    ) -> None:
        if threads is not None and not (isinstance(threads, int) and threads >= 1):
            raise OptionError(f"threads are a whole number from 1 up, not {threads!r}")
        self._engine = Engine(_model_folder(model), _provider(provider), threads)

    @overload
    def derain(self, image: ImagePath, *, strength: float = 1.0, force: bool = False) -> DerainedImage: ...
    @overload
    def derain(self, image: ImageBytes, *, strength: float = 1.0, force: bool = False) -> bytes: ...
    @overload
    def derain(
        self, image: PilImage.Image, *, strength: float = 1.0, force: bool = False
    ) -> PilImage.Image: ...
    @overload
    def derain(
        self, image: NDArray[Levels], *, strength: float = 1.0, force: bool = False
    ) -> NDArray[Levels]: ...

    def derain(
        self,
        image: ImagePath | ImageBytes | PilImage.Image | NDArray[Any],
        *,
        strength: float = 1.0,
        force: bool = False,
    ) -> DerainedImage | bytes | PilImage.Image | NDArray[Any]:
        """The image without rain, of the kind that was given: the rules are those of `derain.derain`."""
        _check_strength(strength)
        how = _How(float(strength), force)
        if isinstance(image, str | os.PathLike):
            return DerainedImage(self._derain_photo(_read(Path(image)), how))
        if isinstance(image, bytes | bytearray | memoryview):
            photo = self._derain_photo(_decode(bytes(image)), how).photo
            return encode_photo(photo, photo.format.answer_format)
        if isinstance(image, PilImage.Image):
            return self._derain_pillow(image, how)
        if isinstance(image, np.ndarray):
            return self._derain_array(_checked(image), how)
        raise UnsupportedFormatError(
            f"{type(image).__name__} is no image: give a path, bytes, a Pillow image or a NumPy array"
        )

    __call__ = derain

    def derain_video(
        self,
        source: ImagePath,
        target: ImagePath,
        *,
        strength: float = 1.0,
        force: bool = False,
        temporal: bool = True,
        codec: str | None = None,
        crf: int | None = None,
        keep_metadata: bool = True,
        note_progress: NoteFrames = lambda frames, of: None,
    ) -> DerainedVideo:
        """Writes `target`, a video without rain: the rules are those of `derain.derain_video`."""
        _check_strength(strength)
        if not can_read_videos():
            raise ModuleNotFoundError("PyAV is not installed: pip install 'derain[video]'", name="av")
        from derain.video.clip import derain_clip  # PyAV takes its time, and may not be there

        options = ClipOptions(
            strength=float(strength),
            force=force,
            temporal=temporal,
            codec=codec,
            crf=crf,
            keeps_metadata=keep_metadata,
        )
        try:
            return derain_clip(self._engine, Path(source), Path(target), options, note_progress)
        except FileNotFoundError as error:
            raise MissingFileError(f"{error.filename or source} does not exist") from error
        except OSError as error:
            raise FileError(f"{error.filename or target}: {error.strerror or error}") from error

    def close(self) -> None:
        """Ends its threads, once the images in work are done."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _derain_photo(self, photo: Photo, how: "_How") -> DerainedPhoto:
        return derain_photo(partial(self._engine.examine, force=how.force), photo, how.strength)

    def _derain_array(self, samples: Samples, how: "_How") -> Samples:
        return _samples(self._derain_photo(_photo(samples), how).photo).reshape(samples.shape)

    def _derain_pillow(self, image: PilImage.Image, how: "_How") -> PilImage.Image:
        """Upright, as the network learnt rain, and turned back, so that size and EXIF stay true."""
        _load(image)  # which may turn a TIFF, and then says so in its EXIF
        exif, _ = read_exif(image.info.get("exif"))
        turns = _TURNS.get(exif.orientation) if exif else None
        upright = image.transpose(turns[0]) if turns else image
        derained = PilImage.fromarray(self._derain_array(_pillow_samples(upright), how))
        if turns:
            derained = derained.transpose(turns[1])
        derained.info = {name: value for name, value in image.info.items() if name != "transparency"}
        return derained


@overload
def derain(
    image: ImagePath,
    *,
    model: ImagePath | None = None,
    strength: float = 1.0,
    provider: ProviderName = "auto",
    force: bool = False,
) -> DerainedImage: ...
@overload
def derain(
    image: ImageBytes,
    *,
    model: ImagePath | None = None,
    strength: float = 1.0,
    provider: ProviderName = "auto",
    force: bool = False,
) -> bytes: ...
@overload
def derain(
    image: PilImage.Image,
    *,
    model: ImagePath | None = None,
    strength: float = 1.0,
    provider: ProviderName = "auto",
    force: bool = False,
) -> PilImage.Image: ...
@overload
def derain(
    image: NDArray[Levels],
    *,
    model: ImagePath | None = None,
    strength: float = 1.0,
    provider: ProviderName = "auto",
    force: bool = False,
) -> NDArray[Levels]: ...


def derain(
    image: ImagePath | ImageBytes | PilImage.Image | NDArray[Any],
    *,
    model: ImagePath | None = None,
    strength: float = 1.0,
    provider: ProviderName = "auto",
    force: bool = False,
) -> DerainedImage | bytes | PilImage.Image | NDArray[Any]:
    """Takes the rain out of an image, and returns one of the same kind.

    - A path (JPEG, PNG, WebP, TIFF, BMP, AVIF, HEIC): a `DerainedImage`, to `save`.
    - bytes of such a file: bytes in the same format (HEIC, which is only read: in JPEG).
    - A Pillow image: one of the same size and with the same `info`: EXIF, ICC profile, resolution. L, LA,
      RGB, RGBA and I;16 keep their mode; 1, P, PA, La, RGBa, RGBX and YCbCr return the nearest of these.
    - A NumPy array: one of the same dtype, uint8 or uint16, and shape: gray (height, width) or
      (height, width, 1), gray and alpha (height, width, 2), RGB (height, width, 3), RGB and alpha
      (height, width, 4). OpenCV's order is BGR: turn it round before and after.

    An image in which the model finds no rain comes back as it was, unless `force` says otherwise.

    `model` is `base`, `fast` or a model folder; None is the one that was promoted. `strength` goes from 0,
    the image as it was given, to 1, the derained one. `provider` is `auto`, `cpu`, `cuda` or `tensorrt`.
    Alpha stays what it was, and so do colours that are wholly transparent. A model is loaded at its first
    use and kept.

    Raises DerainError, which is one of: FileError and MissingFileError (these are OSError and
    FileNotFoundError as well), EmptyImageError, UnsupportedFormatError, CorruptImageError,
    ImageTooLargeError, ModelError, ProviderError and OptionError.
    """
    return _shared(_model_folder(model), _provider(provider)).derain(image, strength=strength, force=force)


def derain_video(
    source: ImagePath,
    target: ImagePath,
    *,
    model: ImagePath | None = None,
    strength: float = 1.0,
    provider: ProviderName = "auto",
    force: bool = False,
    temporal: bool = True,
    codec: str | None = None,
    crf: int | None = None,
    keep_metadata: bool = True,
    note_progress: NoteFrames = lambda frames, of: None,
) -> DerainedVideo:
    """Takes the rain out of a video file, and writes another one, whole or not at all.

    The suffix of `target` says its container: .mp4, .m4v, .mov, .mkv or .webm. Sound, subtitles, chapters,
    time stamps, colours, rotation and the shape of pixels are kept. Scenes without rain stay as they are,
    unless `force` says otherwise. With `temporal`, each frame gets from its neighbours what rain hides in it;
    without it, each is derained by itself.

    `codec` is `h264`, `hevc`, `av1` or `ffv1`; None is H.264, HEVC for more than 8 bits, and AV1 in WebM.
    `crf` is the codec's constant rate factor, lower for better; None is 18, 20 or 26. `note_progress` is
    called with the number of frames that are done, and of about how many. The same call goes on with what one
    that was killed has left.

    Needs PyAV: `pip install 'derain[video]'`. Raises DerainError, which is one of: VideoError,
    ImageTooLargeError, FileError and MissingFileError (these are OSError and FileNotFoundError as well),
    ModelError, ProviderError and OptionError.
    """
    return _shared(_model_folder(model), _provider(provider)).derain_video(
        source,
        target,
        strength=strength,
        force=force,
        temporal=temporal,
        codec=codec,
        crf=crf,
        keep_metadata=keep_metadata,
        note_progress=note_progress,
    )


@cache
def _shared(folder: Path | None, provider: Provider) -> Derainer:
    return Derainer(folder, provider=provider)


if hasattr(os, "register_at_fork"):
    # A forked process has the memory, but not the threads.
    os.register_at_fork(after_in_child=_shared.cache_clear)


def _check_strength(strength: float) -> None:
    """Raises OptionError."""
    if not (isinstance(strength, int | float | np.number) and 0 <= strength <= 1):
        raise OptionError(f"the strength is a number from 0 to 1, not {strength!r}")


def _model_folder(model: ImagePath | None) -> Path | None:
    if model is None:
        return None
    if isinstance(model, os.PathLike):
        return Path(model)
    if not isinstance(model, str):
        raise OptionError(f"a model is a name or a folder, not {model!r}")
    return find_model(model)


def _provider(name: ProviderName) -> Provider:
    try:
        return Provider(name)
    except ValueError:
        raise OptionError(f"the provider is {', '.join(Provider)}, not {name!r}") from None


def _read(path: Path) -> Photo:
    """Raises FileError, or ImageError with the file's name."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise FileError(f"{path} is a folder: name a file") from error
    except (OSError, ValueError) as error:
        raise FileError(f"{str(path)!r} cannot be read: {error}") from error
    try:
        return _decode(data)
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from error


def _decode(data: bytes) -> Photo:
    return decode_photo(data, read_header(data))


def _checked(array: NDArray[Any]) -> Samples:
    """In the machine's byte order; raises UnsupportedFormatError for what is no image."""
    is_known = array.dtype.kind == "u" and array.dtype.itemsize <= 2
    has_shape = array.ndim == 2 or (array.ndim == 3 and 1 <= array.shape[2] <= 4)
    if not (is_known and has_shape and array.size):
        raise UnsupportedFormatError(
            f"an image is uint8 or uint16, (height, width) or (height, width, 1 to 4 channels), "
            f"not {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _load(image: PilImage.Image) -> None:
    """Raises CorruptImageError."""
    try:
        image.load()
    except Exception as error:  # a damaged file makes Pillow raise whatever it happens to
        raise CorruptImageError(f"the Pillow image cannot be read: {error}") from error


def _pillow_samples(image: PilImage.Image) -> Samples:
    """Raises UnsupportedFormatError for a mode that is not among those derained."""
    mode = _MODES.get(image.mode)
    if mode is None:
        raise UnsupportedFormatError(
            f"a Pillow image of mode {image.mode} cannot be derained: convert it to RGB, RGBA, L, LA or I;16"
        )
    if "transparency" in image.info:  # of one colour, or of the palette's
        mode = _WITH_ALPHA.get(mode, mode)
    return _checked(np.asarray(image if image.mode == mode or mode == "I;16" else image.convert(mode)))


def _photo(samples: Samples) -> Photo:
    """As if a PNG had held them; (height, width) or (height, width, 1 to 4)."""
    stacked: NDArray[Any] = samples if samples.ndim == 3 else samples[..., None]
    channels = stacked.shape[2]
    is_gray = channels < 3
    colours: NDArray[Any] = np.repeat(stacked[..., :1], 3, axis=2) if is_gray else stacked[..., :3]
    alpha = stacked[..., -1] if channels in (2, 4) else None
    return Photo(np.ascontiguousarray(colours), alpha, is_gray, None, None, PNG)


def _samples(photo: Photo) -> Samples:
    """A copy; (height, width), or (height, width, 2 to 4)."""
    if photo.is_gray and photo.alpha is None:
        return photo.image[..., 0].copy()
    colours: NDArray[Any] = photo.image[..., :1] if photo.is_gray else photo.image
    return colours.copy() if photo.alpha is None else np.dstack([colours, photo.alpha])
