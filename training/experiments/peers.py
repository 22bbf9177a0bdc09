"""What other people's public deraining networks score and cost: docs/models/peers.csv, read and checked.

Where its figures come from is said in docs/models.md.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from derain.errors import DerainError
from training.repository import ROOT

PEERS = ROOT / "docs" / "models" / "peers.csv"

PAIR_SETS = ("ddn_sirr", "rain100l", "rain100h")
CLEAN_SET = "kodak24"
SETS = (*PAIR_SETS, CLEAN_SET)
INPUT = "rainy input"  # the name of the rows that say what doing nothing scores

Sample = Literal["all", "part"]  # of the images of every set
Exposure = Literal["unseen", "akin", "seen"]  # of a set's rain, to the one who was trained

_SCORES = {name: name for name in PAIR_SETS} | {CLEAN_SET: f"{CLEAN_SET}_back"}  # set: column
_COSTS = ("parameters", "kmac_per_pixel", "cpu_s_480x320", "cpu_s_1280x720")
COLUMNS = ("name", "trained_on", "seen", "akin", "sample", *_COSTS, *_SCORES.values())

_LARGE_MEGAPIXELS = 1280 * 720 / 1e6


class PeersError(DerainError):
    """A table of peers that does not say what it has to."""


@dataclass(frozen=True)
class Peer:
    """A public network, by one set of its weights."""

    name: str
    trained_on: str
    sample: Sample | None  # None: it was not scored
    exposure: dict[str, Exposure]  # of each pair set
    scores: dict[str, float]  # set: PSNR of RGB in dB, of the derained or of the clean images; None left out
    kmac_per_pixel: float
    cpu_s_1280x720: float  # on one thread

    @property
    def label(self) -> str:
        return f"{self.name}, {self.trained_on}" if self.trained_on else self.name

    @property
    def ms_per_megapixel(self) -> float:
        return self.cpu_s_1280x720 / _LARGE_MEGAPIXELS * 1000


@dataclass(frozen=True)
class Peers:
    networks: list[Peer]
    inputs: dict[Sample, dict[str, float]]  # sample: pair set: PSNR of RGB of the rainy images, in dB


def read_peers(path: Path) -> Peers:
    """Raises PeersError with the line that is wrong, OSError where there is no such file."""
    networks: list[Peer] = []
    inputs: dict[Sample, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise PeersError(
                f"{path} has no column {', '.join(missing)}; it has to have {', '.join(COLUMNS)}"
            )
        for row in reader:
            try:
                _read_row(row, networks, inputs)
            except PeersError as error:
                raise PeersError(f"{path}, line {reader.line_num}: {error}") from error
    for peer in networks:
        if peer.sample is not None and (lacking := _pair_sets(peer) - inputs.get(peer.sample, {}).keys()):
            raise PeersError(
                f"{path}: {peer.label} was scored on {peer.sample} of {', '.join(sorted(lacking))}, "
                f"and no row {INPUT!r} says what the rainy images of that sample score"
            )
    return Peers(networks, inputs)


def _read_row(row: dict[str, str], networks: list[Peer], inputs: dict[Sample, dict[str, float]]) -> None:
    if None in row or None in row.values():
        raise PeersError(f"not {len(COLUMNS)} columns, as in the first line")
    if not row["name"]:
        raise PeersError("no name")
    scores = {name: _number(row, column) for name, column in _SCORES.items() if row[column]}
    sample = _sample(row["sample"])
    if scores and sample is None:
        raise PeersError(f"{row['name']} has scores, and sample does not say of what: all or part")
    if row["name"] == INPUT:
        if sample is None:
            raise PeersError(f"{INPUT} without a sample: all or part")
        inputs[sample] = scores
        return
    exposure: dict[str, Exposure] = dict.fromkeys(PAIR_SETS, "unseen")
    for name in _sets(row, "akin"):
        exposure[name] = "akin"
    for name in _sets(row, "seen"):
        exposure[name] = "seen"
    costs = {column: _number(row, column) for column in _COSTS}
    networks.append(
        Peer(
            row["name"],
            row["trained_on"],
            sample,
            exposure,
            scores,
            costs["kmac_per_pixel"],
            costs["cpu_s_1280x720"],
        )
    )


def _pair_sets(peer: Peer) -> set[str]:
    return peer.scores.keys() & set(PAIR_SETS)


def _number(row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise PeersError(f"{column} of {row['name']} is {row[column]!r}, which is no number above 0")
    return value


def _sample(text: str) -> Sample | None:
    samples: dict[str, Sample | None] = {"all": "all", "part": "part", "": None}
    if text not in samples:
        raise PeersError(f"sample is {text!r}, neither all nor part")
    return samples[text]


def _sets(row: dict[str, str], column: str) -> list[str]:
    names = row[column].split()
    if unknown := [name for name in names if name not in PAIR_SETS]:
        raise PeersError(f"{column} of {row['name']} names {unknown[0]!r}; sets are {', '.join(PAIR_SETS)}")
    return names
