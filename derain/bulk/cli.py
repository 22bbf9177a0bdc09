"""`derain bulk`: what can be said to it, and what is done for that."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from derain.arguments import DONE, SOME_FAILED, at_least
from derain.bulk import storage
from derain.bulk.journal import Journal
from derain.bulk.pipeline import Pipeline
from derain.bulk.plan import Make
from derain.bulk.report import REPORT_SUFFIXES
from derain.bulk.rows import Item, Rows
from derain.bulk.run import REPORT_NAME, BulkOptions, DerainAll, run
from derain.bulk.sources import Manifest
from derain.command.arguments import (
    add_engine_options,
    add_result_options,
    check_result_options,
    name_of_a_file,
)
from derain.command.report import Status
from derain.command.running import make_engine, result_options, run_interruptible
from derain.command.work import ResultOptions
from derain.inference.sessions import Provider
from derain.manifest import load_manifest
from derain.memory import give_memory_back
from derain.models.registry import find_model
from derain.pointer import promoted_model

_CORES_OF_A_GPU = 4  # that decode and encode for it, unless told otherwise

_EPILOG = """\
SOURCE is a folder or prefix, a pattern such as 's3://bucket/2026-*/*.jpg', an image, or a manifest: a .txt
with a name on each line, or a .parquet with a column of them. Names are kept below TARGET. What is there
already and whole is skipped, so the same command goes on where it was stopped.

exit status:
  0    all is done, or was done before
  1    some failed, which the others did not wait for
  2    nothing could be started
  130  interrupted by Ctrl+C (143: by SIGTERM, 129: by SIGHUP); the same command goes on with what is left
"""


def main(arguments: list[str] | None = None) -> int:
    """The exit status: `derain bulk --help` says what each means."""
    options = _parse(arguments)
    return run_interruptible(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    give_memory_back()
    folder = find_model(options.model) if options.model else promoted_model()
    make = Make(load_manifest(folder).sha256, _unusual(options))
    target = storage.normal(options.target)
    bulk = BulkOptions(
        source=storage.normal(options.source),
        target=target,
        report=storage.normal(options.report) if options.report else storage.join(target, REPORT_NAME),
        manifest=Manifest(options.column, options.root),
        make=make,
        format=options.format,
        is_as_it_came=not (options.format or options.quality or options.lossless),
        overwrites=options.overwrite,
        is_quiet=options.quiet,
    )
    counts = run(bulk, _way(options, folder, make))
    return SOME_FAILED if counts[Status.FAILED] or counts[Status.NOT_TRIED] else DONE


def _way(options: argparse.Namespace, folder: Path, make: Make) -> DerainAll:
    """On this machine or on a cluster; nothing of Ray is loaded for the former."""
    wanted = result_options(options)
    if options.engine == "local":
        return partial(_derain_here, options, folder, make, wanted)
    from derain.bulk.cluster import Workers, derain_on_ray

    workers = Workers(
        address=options.address,
        count=options.workers,
        cores=options.threads or (_CORES_OF_A_GPU if options.gpu_share else 1),
        gpu_share=options.gpu_share or 0.0,
        provider=Provider(options.provider),
        wait_s=options.wait_for_nodes,
    )
    return partial(derain_on_ray, folder, wanted, make, workers)


def _derain_here(
    options: argparse.Namespace,
    folder: Path,
    make: Make,
    wanted: ResultOptions,
    items: Sequence[Item],
    journal: Journal,
) -> Rows:
    engine = make_engine(options, folder)
    pipeline = Pipeline(engine, wanted, make, journal)
    with closing(pipeline.run(items)) as rows:
        yield from rows
    engine.close()


def _unusual(options: argparse.Namespace) -> str | None:
    """What was asked for of the results, as the report has it; None for nothing."""
    asked = {
        "strength": None if options.strength == 1 else f"{options.strength:g}",
        "format": options.format and options.format.name.lower(),
        "quality": options.quality,
    }
    words = [f"{name}={value}" for name, value in asked.items() if value is not None]
    flags = {"force": options.force, "explain": options.explain, "lossless": options.lossless}
    words += [name for name, is_set in (flags | {"strip-metadata": options.strip_metadata}).items() if is_set]
    return " ".join(words) or None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Ends the program where they are not understood, with status 2."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    check_result_options(parser, options)
    for option in ("address", "workers", "gpu_share", "wait_for_nodes"):
        if options.engine == "local" and getattr(options, option):
            parser.error(f"--{option.replace('_', '-')} is of --engine ray")
    if options.engine == "ray":
        _check_ray(parser, options)
    return options


def _check_ray(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """And settles what runs the networks: a GPU where a share of one is asked for, else the CPU."""
    if options.device is not None:
        parser.error("--device: Ray gives each worker its GPU; say with --gpu-share how much of one")
    if options.provider == Provider.CPU and options.gpu_share:
        parser.error("--gpu-share: the provider is cpu, which takes none")
    if options.provider in (Provider.CUDA, Provider.TENSORRT):
        options.gpu_share = options.gpu_share or 1.0
    if options.provider == Provider.AUTO:
        options.provider = Provider.CUDA.value if options.gpu_share else Provider.CPU.value
    for name in (options.source, options.target, options.report or ""):
        if name.startswith("memory://"):
            parser.error(f"{name} is in the memory of this process alone, where no worker of Ray is")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="derain bulk",
        description="Takes rain out of archives of images, on disks or in buckets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=name_of_a_file, metavar="SOURCE")
    parser.add_argument("target", type=name_of_a_file, metavar="TARGET", help="a folder or a prefix")
    parser.add_argument(
        "--report",
        type=name_of_a_file,
        metavar="FILE",
        help=f"a row for each file, as {' or '.join(REPORT_SUFFIXES)}; default: {REPORT_NAME} in TARGET",
    )
    parser.add_argument("--overwrite", action="store_true", help="derain anew what is there already")
    parser.add_argument(
        "--root", type=name_of_a_file, metavar="FOLDER", help="of a manifest: names are kept below it"
    )
    parser.add_argument(
        "--column", type=name_of_a_file, metavar="NAME", help="of a .parquet: default path, url or source"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but what failed")
    add_result_options(parser)
    parser.set_defaults(codec=None, crf=None, temporal=True)  # of videos, which are left out here
    add_engine_options(parser)
    _add_ray_options(parser)
    return parser


def _add_ray_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="this machine (default), or a Ray cluster"
    )
    cluster = parser.add_argument_group("with --engine ray")
    cluster.add_argument(
        "--address", metavar="HOST:PORT", help="default: RAY_ADDRESS, or a cluster of this machine alone"
    )
    cluster.add_argument(
        "--workers",
        type=at_least(1),
        metavar="N",
        help="of --threads each (1); default: all there is room for",
    )
    cluster.add_argument(
        "--gpu-share", type=_share, metavar="SHARE", help="of a GPU that each worker takes, as 0.5 or 1"
    )
    cluster.add_argument(
        "--wait-for-nodes",
        type=at_least(0),
        default=0,
        metavar="S",
        help="until a machine has room for a worker, where an autoscaler starts them; default: 0 s",
    )


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share of a GPU, more than 0 and up to 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
