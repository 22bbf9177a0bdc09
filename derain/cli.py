"""The `derain` command: pictures and folders in, pictures without rain out."""

import argparse
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from derain.engine import DEFAULT_MODEL, Engine, Provider
from derain.errors import DerainError, ImageError
from derain.formats import FORMAT_OF, PICTURE_SUFFIXES
from derain.header import read_header
from derain.image import is_picture, write_atomically
from derain.photo import decode_photo, derain_photo, encode_photo

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path


class PlanError(DerainError):
    """Inputs and outputs that cannot be what was meant."""


class OutputError(DerainError):
    """A file that cannot be written where it was asked for."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 all done or done before, 1 some failed, 2 nothing could be started."""
    options = _parser().parse_args(arguments)
    try:
        jobs = plan(options.inputs, options.output)
        todo = [job for job in jobs if options.overwrite or not job.target.exists()]
        engine = Engine(options.model, Provider(options.provider), options.threads) if todo else None
        keep_metadata = not options.strip_metadata
        failed = _run(engine, todo, options.strength, keep_metadata) if engine else 0
    except (DerainError, OSError) as error:
        print(f"derain: error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("\nderain: interrupted; the same command goes on with what is left", file=sys.stderr)
        return INTERRUPTED
    skipped = len(jobs) - len(todo)
    print(
        f"{len(todo) - failed} derained, {skipped} already there, {failed} failed; in {options.output}",
        file=sys.stderr,
    )
    return SOME_FAILED if failed else DONE


def plan(inputs: Iterable[Path], output: Path) -> list[Job]:
    """What goes where: a file by its name, a folder's pictures by their place in it.

    What cannot be written in the format it is in gets the name of the one it is answered in.

    Raises PlanError for an input that is not there or has no pictures, for two that would
    be written to one place, and for one that would be written over itself.
    """
    if output.exists() and not output.is_dir():
        raise PlanError(f"{output} is not a folder")
    jobs: list[Job] = []

    def add(source: Path, place: Path) -> None:
        known = FORMAT_OF.get(source.suffix.lower())
        if known and not known.writable:
            place = place.with_suffix(known.answer_format.suffixes[0])
        jobs.append(Job(source, output / place))

    for given in inputs:
        if given.is_dir():
            found = _pictures(given, output)
            if not found:
                raise PlanError(f"no pictures in {given} (known: {', '.join(sorted(PICTURE_SUFFIXES))})")
            for path in found:
                add(path, path.relative_to(given))
        elif given.exists():
            add(given, Path(given.name))
        else:
            raise PlanError(f"{given} does not exist")
    by_target: dict[Path, Job] = {}
    for job in jobs:
        if job.target.resolve() == job.source.resolve():
            raise PlanError(f"{job.source} would be written over itself; choose another --output")
        other = by_target.setdefault(job.target, job).source
        if other.resolve() != job.source.resolve():
            raise PlanError(f"{other} and {job.source} would both be written to {job.target}")
    return list(by_target.values())


def derain_file(engine: Engine, job: Job, strength: float = 1.0, keep_metadata: bool = True) -> None:
    """One picture, in the format it came in where that can be written. Raises ImageError or OSError."""
    data = job.source.read_bytes()
    photo = derain_photo(engine.derain, decode_photo(data, read_header(data)), strength)
    derained = encode_photo(photo, photo.format.answer_format, keep_metadata=keep_metadata)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(job.target, derained)


def _run(engine: Engine, jobs: list[Job], strength: float, keep_metadata: bool) -> int:
    """The number that failed: each says why, and the others go on."""
    failed = 0
    with tqdm(jobs, unit="picture", disable=None) as progress:
        for job in progress:
            try:
                derain_file(engine, job, strength, keep_metadata)
            except (ImageError, OSError) as error:
                failed += 1
                progress.write(f"derain: {job.source}: {error}", file=sys.stderr)
    return failed


def _pictures(folder: Path, output: Path) -> list[Path]:
    """In and below the folder; not the earlier results, should the output folder lie inside."""
    found = [path for path in sorted(folder.rglob("*")) if is_picture(path)]
    results = output.resolve()
    has_results = folder.resolve() in results.parents
    return [path for path in found if not (has_results and results in path.resolve().parents)]


def at_least(lowest: int) -> Callable[[str], int]:
    """For argparse: reads a whole number that is not below `lowest`, itself 0 or more."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {lowest} or more")
        return int(text)

    return read


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def check_output(path: Path, suffixes: Collection[str] = ()) -> None:
    """Before the work: raises OutputError where no file can be written. Without suffixes any will do."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path}: it can be written as {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: {path.parent} is not a folder")


def run_command(work: Callable[[], int]) -> int:
    """The exit status of a command that is all or nothing: what stops it is said in one line."""
    try:
        return work()
    except (DerainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="derain", description="Takes rain out of photographs.")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="PICTURE|FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where results go")
    parser.add_argument(
        "-m", "--model", type=Path, default=DEFAULT_MODEL, metavar="FOLDER", help="default: %(default)s"
    )
    parser.add_argument(
        "--provider", choices=[provider.value for provider in Provider], default=Provider.AUTO.value
    )
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="on the CPU; default: all cores")
    parser.add_argument(
        "--strength", type=_strength, default=1.0, metavar="0..1", help="how much of the rain to take out"
    )
    parser.add_argument(
        "--strip-metadata", action="store_true", help="leave out EXIF and resolution, not the colour profile"
    )
    parser.add_argument("--overwrite", action="store_true", help="also what is already in the output folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
