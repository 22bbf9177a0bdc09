"""The files that videos come in, and how they are written. Knows nothing of PyAV."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from derain.video.errors import VideoError


@dataclass(frozen=True)
class Codec:
    """How a video is compressed."""

    name: str
    encoder: str  # as FFmpeg calls it
    depths: tuple[int, ...]  # bits of a sample, the most last
    crf: int | None = None  # constant rate factor: the lower, the better and larger. None: without loss
    worst_crf: int = 51
    options: dict[str, str] = field(default_factory=dict, hash=False)
    tag: str | None = None  # in MP4 and MOV; None: FFmpeg's own
    has_odd_sizes: bool = False
    is_lossless: bool = False


# Of the folder beside a result that is not whole yet.
UNFINISHED_SUFFIX = ".unfinished"

# So that a result does not depend on the machine, encoders have a fixed number of threads.
ENCODER_THREADS = 4

H264 = Codec("h264", "libx264", (8,), crf=18, options={"preset": "medium"})
# Apple's players take no other tag than hvc1.
HEVC = Codec("hevc", "libx265", (8, 10), crf=20, options={"preset": "medium"}, tag="hvc1")
AV1 = Codec("av1", "libsvtav1", (8, 10), crf=26, worst_crf=63, options={"preset": "6"}, has_odd_sizes=True)
FFV1 = Codec(
    "ffv1", "ffv1", (8, 16), options={"level": "3", "slicecrc": "1"}, has_odd_sizes=True, is_lossless=True
)
CODECS = {codec.name: codec for codec in (H264, HEVC, AV1, FFV1)}


@dataclass(frozen=True)
class Container:
    """A file format of videos that is written."""

    name: str
    muxer: str  # as FFmpeg calls it
    suffixes: tuple[str, ...]
    codecs: tuple[Codec, ...]
    options: dict[str, str] = field(default_factory=dict, hash=False)


# The index in front, so that a player may begin before all has arrived.
MP4 = Container("MP4", "mp4", (".mp4", ".m4v"), (H264, HEVC, AV1), {"movflags": "faststart"})
MOV = Container("MOV", "mov", (".mov",), (H264, HEVC), {"movflags": "faststart"})
MKV = Container("Matroska", "matroska", (".mkv",), (H264, HEVC, AV1, FFV1))
WEBM = Container("WebM", "webm", (".webm",), (AV1,))
CONTAINERS = (MP4, MOV, MKV, WEBM)
CONTAINER_OF = {suffix: container for container in CONTAINERS for suffix in container.suffixes}

# Of files that are only read; the content says what they are.
_ONLY_READ = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob"),
    *(".wmv", ".y4m"),
)
VIDEO_SUFFIXES = frozenset((*CONTAINER_OF, *_ONLY_READ))
# What FFmpeg calls what it may read. None of them names other files, or addresses to ask.
DEMUXERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,mxf,ogg,yuv4mpegpipe"


# Named outright it is a video; among other files it may be TypeScript.
AMBIGUOUS_SUFFIX = ".ts"


def is_video_name(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def can_read_videos() -> bool:
    """Whether PyAV is installed, without loading it."""
    return find_spec("av") is not None


def container_named(path: Path) -> Container:
    """By its suffix; raises VideoError for one that is not written."""
    container = CONTAINER_OF.get(path.suffix.lower())
    if container is None:
        raise VideoError(f"{path}: a video can be written as {', '.join(CONTAINER_OF)}, not {path.suffix!r}")
    return container


def choose_codec(name: str | None, container: Container, depth: int) -> Codec:
    """The one asked for; or what plays everywhere: H.264 for 8 bits, and HEVC for more.

    Raises VideoError for one that there is not, or not in this container.
    """
    if name is None:
        fitting = [codec for codec in container.codecs if codec.depths[-1] >= min(depth, 10)]
        return fitting[0]
    codec = CODECS.get(name)
    if codec is None:
        raise VideoError(f"no codec {name!r}: there are {', '.join(CODECS)}")
    if codec not in container.codecs:
        names = ", ".join(each.name for each in container.codecs)
        raise VideoError(f"{container.name} is not written with {name}, but with {names}")
    return codec


def check_crf(crf: int | None, codec: Codec) -> None:
    """Raises VideoError."""
    if crf is None:
        return
    if codec.crf is None:
        raise VideoError(f"a crf of {crf} was asked for, but {codec.name} loses nothing and has none")
    if not 0 <= crf <= codec.worst_crf:
        raise VideoError(f"the crf of {codec.name} is from 0 to {codec.worst_crf}, not {crf}")
