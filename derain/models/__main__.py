"""Which model is served: lists the models, promotes one, rolls back to the one before.

    python -m derain.models list
    python -m derain.models promote candidate-2026-11-24 --reason "less rain left on the bridge camera"
    python -m derain.models rollback
    python -m derain.models history

A model is verified and tried out before it is promoted, but not compared with the one that is served:
that is what `python -m training.gate` does. The exit status is 0 when it is done, 1 when it is refused,
2 when the command is not understood.
"""

import argparse
import sys
from pathlib import Path

from derain.arguments import DONE, run_command
from derain.errors import ModelError
from derain.manifest import load_manifest
from derain.models.registry import Registry
from derain.pointer import DEFAULT_MODELS, Choice


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    registry = Registry(options.models)
    match options.command:
        case "list":
            _list(registry)
        case "promote":
            print(f"served from now on: {registry.promote(options.name, options.reason)}")
        case "rollback":
            choice = registry.roll_back()
            print(f"served again: {choice}, {choice.reason}")
        case "history":
            print(*map(_line, registry.history()), sep="\n")
    return DONE


def _list(registry: Registry) -> None:
    """Every model, also a damaged one, what a rollback leads to, and what is wrong with the pointer, if
    anything is."""
    served: Choice | None = None
    try:
        served = registry.current()
    finally:
        for name in registry.names():
            mark = "*" if served is not None and served.model == name else " "
            try:
                manifest = load_manifest(registry.folder(name))
                size = sum(file.bytes for file in manifest.files) / 1e6
                print(f"{mark} {name}  {manifest.sha256[:12]}  {size:.2f} MB")
            except ModelError as error:
                print(f"{mark} {name}  {error}")
    before = registry.rollback_target()
    print(f"a rollback serves {before} again" if before else "nothing was served before: no rollback")


def _line(choice: Choice) -> str:
    return f"{choice.at:%Y-%m-%d %H:%M} UTC  {choice}  {choice.reason}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m derain.models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--models", type=Path, default=DEFAULT_MODELS, metavar="FOLDER", help="default: %(default)s"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|promote|rollback|history")
    commands.add_parser("list", help="the models that there are; * marks the one that is served")
    promote = commands.add_parser("promote", help="serve this model")
    promote.add_argument("name", metavar="NAME", help="of its folder")
    promote.add_argument("--reason", required=True, help="for those who read the history")
    commands.add_parser("rollback", help="serve what was served before; again, what was before that")
    commands.add_parser("history", help="what was served, oldest first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
