"""What can be said to the `derain` command."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from derain import __version__
from derain.arguments import at_least
from derain.command.streams import STREAM
from derain.errors import ModelError, UnsupportedFormatError
from derain.images.formats import ImageFormat, named_format
from derain.inference.sessions import Provider
from derain.manifest import Manifest, load_manifest
from derain.models.registry import Registry
from derain.pointer import DEFAULT_MODELS, current_choice
from derain.video.errors import VideoError
from derain.video.formats import CODECS, check_crf

_DESCRIPTION = """\
Takes rain out of photographs and videos.

    derain rain.jpg -o clean.jpg
    derain holiday/ -o derained/
    derain rain.mp4 -o clean.mp4
"""

_EPILOG = """\
The RESULT `clean.jpg` is a file, by its suffix, and written over; any other name is a folder, in which
images keep their names and their places, and what is there already is skipped. `-` is for an image, or for
the frames of a video in y4m.

`derain bulk --help`: archives, in buckets as well, on one machine or a cluster. `derain serve --help`: the
HTTP service.

exit status:
  0    all is done, or was done before
  1    some failed, which the others did not wait for, or were cut short and derained as far as they go
  2    nothing could be started
  130  interrupted by Ctrl+C (143: by SIGTERM, 129: by SIGHUP); the same command goes on with what is left
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Ends the program where they are not understood, as argparse does, with status 2."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.output is None:
        if options.inputs != [STREAM]:
            parser.error("where is the result to go? -o clean.jpg, or into a folder: -o derained/")
        options.output = STREAM
    if options.inputs.count(STREAM) > 1:
        parser.error("standard input is one image: - can be named once")
    if options.watch and (len(options.inputs) > 1 or not Path(options.inputs[0]).is_dir()):
        parser.error("--watch takes one folder to look into")
    if options.watch and options.report == STREAM:
        parser.error("--report -: a watch has no end to print it at; name a file")
    if STREAM == options.output == options.report:
        parser.error("--report -: standard output has the image already")
    _check_video_options(parser, options)
    check_result_options(parser, options)
    return options


def check_result_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program where the format asked for cannot do what else is asked for."""
    if options.quality and options.format and options.format.quality is None:
        parser.error(f"--quality: {options.format.name} has none")
    if options.lossless and options.format and not options.format.can_be_lossless:
        parser.error(f"--lossless: {options.format.name} cannot be written without loss")


def _check_video_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.raw and options.inputs != [STREAM]:
        parser.error("--raw says how large the frames are that come through standard input: derain - --raw")
    if options.crf is not None and options.codec is not None:
        try:
            check_crf(options.crf, CODECS[options.codec])
        except VideoError as error:
            parser.error(f"--crf: {error}")


def _promoted() -> Manifest | None:
    """None where that is not known."""
    try:
        return load_manifest(Registry().folder(current_choice(DEFAULT_MODELS).model))
    except ModelError:
        return None


class _ListModels(argparse.Action):
    """Prints the models that come along, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        registry = Registry()
        promoted = _promoted()
        for name in registry.names():
            try:
                print(f"{name}\t{_in_words(load_manifest(registry.folder(name)), promoted)}")
            except ModelError as error:
                print(f"{name}\t{error}")
        parser.exit()


def _in_words(manifest: Manifest, promoted: Manifest | None) -> str:
    """What it takes: megabytes, and time in the promoted model's."""
    size = f"{sum(file.bytes for file in manifest.files) / 1e6:.1f} MB"
    if promoted is None:
        return size
    if manifest.name == promoted.name:
        return f"{size}, the default"
    return f"{size}, {manifest.kmac_per_pixel / promoted.kmac_per_pixel:.1f} of the time of {promoted.name}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="derain",
        usage="derain INPUT [INPUT ...] -o RESULT [OPTION ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=name_of_a_file,
        metavar="INPUT",
        help="an image, a video, a folder with all that is in it, or - for standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=name_of_a_file,
        metavar="RESULT",
        help="a file, a folder, or - for standard output; needless for `derain -`",
    )
    parser.add_argument("--overwrite", action="store_true", help="also what is already in the output folder")
    parser.add_argument(
        "--watch", action="store_true", help="go on with what comes into the folder, until Ctrl+C"
    )
    add_result_options(parser)
    _add_video_options(parser)
    add_engine_options(parser)
    parser.add_argument(
        "--report",
        type=name_of_a_file,
        metavar="FILE",
        help="what became of each file: .json or .csv; - prints JSON",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but what failed")
    parser.add_argument("--version", action="version", version=f"derain {__version__}")
    return parser


def add_result_options(parser: argparse.ArgumentParser) -> None:
    results = parser.add_argument_group("results")
    results.add_argument(
        "--strength",
        type=_strength,
        default=1.0,
        metavar="0..1",
        help="how much of the rain to take out; default: 1, all that is found",
    )
    results.add_argument(
        "--force", action="store_true", help="derain also where no rain is found, and nothing would change"
    )
    results.add_argument(
        "--explain", action="store_true", help="show what is taken away, in the place of what is left"
    )
    results.add_argument(
        "--format",
        type=_format,
        metavar="FORMAT",
        help="jpeg, png, webp, tiff, bmp or avif; default: as it came",
    )
    results.add_argument("--quality", type=_quality, metavar="1..100", help="of JPEG, WebP and AVIF")
    results.add_argument("--lossless", action="store_true", help="without loss, where the format can")
    results.add_argument(
        "--strip-metadata", action="store_true", help="leave out EXIF and resolution, not the colour profile"
    )


def _add_video_options(parser: argparse.ArgumentParser) -> None:
    videos = parser.add_argument_group("videos")
    videos.add_argument(
        "--codec",
        choices=list(CODECS),
        help="default: h264, and hevc where the video has more than 8 bits; av1 in .webm",
    )
    videos.add_argument(
        "--crf", type=at_least(0), metavar="N", help="constant rate factor: lower is better and larger"
    )
    videos.add_argument(
        "--no-temporal",
        dest="temporal",
        action="store_false",
        help="derain each frame by itself, without what its neighbours show",
    )
    videos.add_argument(
        "--raw",
        type=_size,
        metavar="WIDTHxHEIGHT",
        help="frames of plain RGB, 8 bits, come through standard input; y4m says its size itself",
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    engine = parser.add_argument_group("model and machine")
    engine.add_argument(
        "-m",
        "--model",
        type=name_of_a_file,
        metavar="NAME|FOLDER",
        help="one of --list-models, or a folder; default: the one that was promoted",
    )
    engine.add_argument("--list-models", action=_ListModels, nargs=0, help="print the models that come along")
    engine.add_argument(
        "--provider", choices=[provider.value for provider in Provider], default=Provider.AUTO.value
    )
    engine.add_argument("--device", type=at_least(0), metavar="N", help="the GPU to use, numbered from 0")
    engine.add_argument(
        "--threads", type=at_least(1), metavar="N", help="on the CPU; default: all cores, up to 16"
    )
    engine.add_argument(
        "--max-pixels",
        type=at_least(1),
        metavar="N",
        help="refuse larger images; default: what fits this machine's memory",
    )


def name_of_a_file(text: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a file or folder")
    return text


def _size(text: str) -> tuple[int, int]:
    known = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if known is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no width and height in pixels, such as 1280x720")
    return int(known[1]), int(known[2])


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 100")
    return int(text)


def _format(text: str) -> ImageFormat:
    try:
        return named_format(text)
    except UnsupportedFormatError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
