"""What the commands share of their arguments: readers of numbers and names, and sets of images."""

import argparse
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

Value = TypeVar("Value")


def add_pairs_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--pairs",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="one folder with rainy and clean images in it or below it, or two, first the rainy one; "
        "NAME may be KIND/NAME",
    )


def add_clean_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--clean",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="images that have no rain: do they come back as they were?",
    )


def check_pairs_option(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exits as argparse does where --pairs has too few folders, or too many."""
    for named in options.pairs:
        if len(named) not in (2, 3):
            parser.error(f"--pairs takes a name and one or two folders, not {' '.join(named)!r}")
        if not all(named[0].split("/", 1)):
            parser.error(f"--pairs takes a NAME or KIND/NAME, neither of them empty, not {named[0]!r}")


def model_name(text: str) -> str:
    """For argparse: a name that a folder can have."""
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of letters, digits, '_', '-' and '.'")
    return text


def number(is_allowed: Callable[[float], bool], allowed: str) -> Callable[[str], float]:
    """For argparse: reads one that `is_allowed`; `allowed` says which are, as in "a number from 0 to 1"."""

    def read(text: str) -> float:
        with suppress(ValueError):
            if is_allowed(float(text)):
                return float(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")

    return read


share = number(lambda value: 0 <= value <= 1, "a number from 0 to 1")
positive = number(lambda value: 0 < value < math.inf, "a number above 0")
not_negative = number(lambda value: 0 <= value < math.inf, "a number of 0 or more")


def first_repeated(values: Iterable[Value]) -> Value | None:
    """The first that is there twice, such as a name that two sets are given."""
    seen: set[Value] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
