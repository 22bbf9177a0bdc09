"""What is to be derained and where the results go, found out and checked before the work."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image as PilImage

from derain.command.disk import check_folder, problem_of
from derain.command.folder import walk
from derain.command.names import Namer, is_same_file
from derain.command.report import Outcome, Status, left_out_lines
from derain.command.streams import STREAM
from derain.errors import DerainError, ImageError
from derain.images.formats import FORMAT_OF, FORMATS, IMAGE_SUFFIXES, UNREAD_KINDS, ImageFormat
from derain.images.header import read_header
from derain.video.formats import Container, can_read_videos, container_named, is_video_name

# So much of a file mostly contains its format and size: EXIF with its thumbnail comes before the size.
_HEADER_BYTES = 128 * 1024


class PlanError(DerainError):
    """Inputs and outputs that cannot be what was meant."""


@dataclass(frozen=True)
class Job:
    """One image or video to derain; a source of None is standard input, a target of None standard output."""

    source: Path | None
    target: Path | None
    format: ImageFormat | None  # to write; None: as the source
    pixels: int = 0  # of the source; 0: not known beforehand
    source_bytes: int = 0
    is_in_place: bool = False  # the target is a device, a pipe or an empty file, to be kept as such
    is_video: bool = False  # the target's name says as what it is written; pixels are those of all frames

    def failed(self, reason: str) -> Outcome:
        return Outcome(self.source, Status.FAILED, self.target, reason)


@dataclass(frozen=True)
class Output:
    """Where results go: into a folder, to one file, or, where both are None, to standard output."""

    folder: Path | None = None
    file: Path | None = None
    is_in_place: bool = False  # of the file: see Job

    @property
    def is_stream(self) -> bool:
        return self.folder is None and self.file is None


@dataclass
class Plan:
    jobs: list[Job] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)  # of what there is nothing to do for


@dataclass(frozen=True)
class Source:
    """An image or video that was found. By its header: the format that it is answered in, and its size."""

    path: Path
    place: Path  # where it is in the folder that was named
    format: ImageFormat | None  # None: nobody knows
    pixels: int
    bytes: int
    container: Container | None = None  # of a video
    is_video: bool = False


def read_output(text: str, inputs: Sequence[str]) -> Output:
    """A name with an image's suffix is a file, any other one a folder, `-` standard output.

    Raises PlanError where it is none of them, or several images would go to one file.
    """
    is_single = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if text == STREAM:
        if not is_single:
            raise PlanError("standard output takes the result of one image: name a folder as --output")
        return Output()
    path = Path(text)
    if path.is_dir() or text.endswith(("/", os.sep)):
        return Output(folder=path)
    is_in_place = _is_written_in_place(path)
    is_file = is_in_place or _is_image_name(path)
    if path.exists() and not (is_file and is_single):
        raise PlanError(f"{path} is not a folder" + (", and no name of an image" if is_single else ""))
    if not is_file:
        return Output(folder=path)
    if not is_single:
        raise PlanError(
            f"{path} is one image by its name, but what is to be derained may be several: name a folder, "
            f"with {os.sep} at its end should it be called so"
        )
    return Output(file=path, is_in_place=is_in_place)


def plan(
    inputs: Sequence[str],
    output: Output,
    image_format: ImageFormat | None = None,
    codec: str | None = None,
) -> Plan:
    """What goes where: a file by its name, a folder's images by their place in it.

    What is there, but left out, has its outcome, and so has what is not there or cannot be read.
    Raises PlanError where there is nothing to derain, where two files of one name would be written to one
    place, and for one that would be written over a source; FileError where nothing can be written.
    """
    if output.folder is None:
        return Plan([_single_job(inputs[0], output, image_format)])
    check_folder(output.folder)
    sources, outcomes = find(inputs, output.folder, codec)
    jobs = name_targets(sources, output.folder, image_format, Namer())
    _check_sources_are_safe(jobs)
    return Plan(jobs, outcomes)


def find(
    inputs: Sequence[str], results: Path, codec: str | None = None
) -> tuple[list[Source], list[Outcome]]:
    """The images that are named, and those in folders; and what is none.

    Raises PlanError for no images at all, and for two of one name.
    """
    found: dict[Path, Path] = {}  # by their places
    outcomes: list[Outcome] = []
    for each in (each for text in inputs for each in _in_input(text, results)):
        if isinstance(each, Outcome):
            outcomes.append(each)
            continue
        path, place = each
        other = found.setdefault(place, path)
        if other.resolve() != path.resolve():
            raise PlanError(f"{other} and {path} would both be written to {results / place}")
    if not found:
        raise PlanError(_nothing_to_do(inputs, outcomes))
    return [look_at(path, place, codec) for place, path in found.items()], outcomes


def look_at(path: Path, place: Path, codec: str | None = None) -> Source:
    """By the beginning of the file; whether the rest is sound shows when it is derained."""
    if is_video_name(path.name):
        return _look_at_video(path, place, codec)
    image_format, pixels, size = FORMAT_OF.get(path.suffix.lower()), 0, 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
        header = read_header(start, max_pixels=2**63)
        image_format, pixels = header.format, header.width * header.height
    except ImageError:
        image_format, pixels = _by_pillow(path) or (image_format, 0)
    except OSError:
        pass  # it fails when it is to be derained, and says why
    return Source(path, place, image_format and image_format.answer_format, pixels, size)


def _look_at_video(path: Path, place: Path, codec: str | None) -> Source:
    from derain.video.preview import preview  # PyAV takes its time, and may not be there

    found = preview(path, codec)
    size = 2 * path.stat().st_size if path.exists() else 0  # segments, and the result that is made of them
    if found is None:
        return Source(path, place, None, 0, size, is_video=True)
    return Source(path, place, None, found.pixels, size, found.container, is_video=True)


def name_targets(
    sources: Sequence[Source], folder: Path, image_format: ImageFormat | None, namer: Namer
) -> list[Job]:
    """A job for each source, in the format given or the one it came in."""
    formats = [None if each.is_video else image_format or each.format for each in sources]
    names = namer.name_all(
        (source.place, each or source.container) for source, each in zip(sources, formats, strict=True)
    )
    return [
        Job(source.path, folder / name, each, source.pixels, source.bytes, is_video=source.is_video)
        for source, name, each in zip(sources, names, formats, strict=True)
    ]


def _single_job(text: str, output: Output, image_format: ImageFormat | None) -> Job:
    source = None if text == STREAM else Path(text)
    looked = Source(Path(), Path(), None, 0, 0)
    if source is not None:
        if not source.exists():
            raise PlanError(f"{source} does not exist")
        if is_video_name(source.name):
            return _video_job(source, output)
        if source.is_file():  # what comes through a pipe comes once
            looked = look_at(source, source)
    if output.file is None:
        return Job(source, None, image_format or looked.format, looked.pixels, looked.bytes)
    file = output.file
    if not output.is_in_place:
        file = file.resolve() if file.is_symlink() else file  # the link stays one
        named = _written_by(file)
        if image_format not in (None, named):
            raise PlanError(f"{file} is named as {named.name}, but --format says {image_format.name}")
        image_format = named
        check_folder(file.parent)
        if problem := problem_of(file):
            raise PlanError(problem)
    job = Job(source, file, image_format or looked.format, looked.pixels, looked.bytes, output.is_in_place)
    _check_sources_are_safe([job])
    return job


def _video_job(source: Path, output: Output) -> Job:
    _check_can_read(source)
    if output.file is None:
        raise PlanError(
            f"{source} is a video, and is written to a file: name one as --output; "
            "frames go through standard input and output as y4m"
        )
    file = output.file.resolve() if output.file.is_symlink() else output.file
    container_named(file)  # raises
    check_folder(file.parent)
    if problem := problem_of(file):
        raise PlanError(problem)
    looked = look_at(source, source)
    job = Job(source, file, None, looked.pixels, looked.bytes, is_video=True)
    _check_sources_are_safe([job])
    return job


def _check_can_read(path: Path) -> None:
    if is_video_name(path.name) and not can_read_videos():
        raise PlanError(f"{path} is a video, which needs PyAV: pip install 'derain[video]'")


def _written_by(file: Path) -> ImageFormat:
    """The format that the name says; raises PlanError for one that is not written, or not under that name."""
    known = FORMAT_OF.get(file.suffix.lower())
    if known is None or not known.writable or file.suffix.lower() not in known.suffixes:
        suffixes = ", ".join(each.suffixes[0] for each in FORMATS if each.writable)
        raise PlanError(f"{file}: no result can be written as {file.suffix}, but as {suffixes}")
    return known


def _is_image_name(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in FORMAT_OF or suffix in UNREAD_KINDS or is_video_name(path.name)


def _is_written_in_place(path: Path) -> bool:
    """A device or a pipe; or an empty file that somebody made for it, under a name that says nothing."""
    if not path.exists():
        return False
    return not path.is_file() or (not path.stat().st_size and not _is_image_name(path))


def _in_input(text: str, results: Path) -> Iterator[tuple[Path, Path] | Outcome]:
    """Images, each with its place in the folder that was named, and what is left out."""
    if text == STREAM:
        raise PlanError("standard input has no name to keep: name a file as --output, alone")
    given = Path(text)
    try:
        mode = given.stat().st_mode
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        yield Outcome(
            given, Status.FAILED, reason="does not exist" if is_missing else error.strerror or str(error)
        )
        return
    if stat.S_ISDIR(mode):
        for each in walk(given, results):
            yield (each, each.relative_to(given)) if isinstance(each, Path) else each
    elif stat.S_ISREG(mode):
        _check_can_read(given)
        yield given, Path(given.name)
    else:
        raise PlanError(f"{given} is a device or a pipe, and has no name to keep: name a file as --output")


def _nothing_to_do(inputs: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    if failed := [f"{each.source} {each.reason}" for each in outcomes if each.status is Status.FAILED]:
        return "; ".join(failed)
    known = ", ".join(sorted(IMAGE_SUFFIXES))
    return "; ".join([f"no images in {', '.join(inputs)} (known: {known})", *left_out_lines(outcomes)])


def _by_pillow(path: Path) -> tuple[ImageFormat, int] | None:
    """Format and pixels of what tells them further behind, such as TIFF; None where that does not help."""
    try:
        with warnings.catch_warnings(action="ignore"), PilImage.open(path) as image:
            name, pixels = image.format or "", image.width * image.height
    except Exception:  # a damaged file makes Pillow's parsers raise whatever it happens to
        return None
    known = next((each for each in FORMATS if each.name.upper() == name.upper()), None)
    return (known, pixels) if known else None


def _check_sources_are_safe(jobs: Sequence[Job]) -> None:
    """Raises PlanError for a result that would be written over an image that is to be derained."""
    sources = {job.source.resolve() for job in jobs if job.source}
    for job in jobs:
        if job.source is None or job.target is None:
            continue
        if is_same_file(job.target, job.source):
            raise PlanError(f"{job.source} would be written over itself; choose another --output")
        if job.target.resolve() in sources:
            raise PlanError(f"{job.source} would be written over {job.target}; choose another --output")
