"""Networks to score: model folders through the engine that serves them, and any ONNX file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from derain.arrays import Image
from derain.errors import ModelError
from derain.inference.engine import Engine
from derain.inference.sessions import Provider
from derain.manifest import MANIFEST_NAME, Evaluation
from training.evaluation.external_onnx import Convention, ForeignNetwork
from training.evaluation.scoring import (
    RealResult,
    Report,
    Result,
    measure,
    measure_real,
    ms_per_megapixel,
    summarise,
)
from training.evaluation.sets import ImageSet, note

# A network that keeps clean images worse than any that is known, or does nothing to rain either.
_LOWEST_PLAUSIBLE_PSNR = 22.0
_IDLE_PSNR = 45.0
_IDLE_REMOVAL = 0.02


class Network(Protocol):
    """What can be scored."""

    @property
    def provider(self) -> Provider: ...

    @property
    def threads(self) -> int: ...

    def derain(self, image: Image) -> Image: ...


def check_network(model: Path, is_recorded: bool) -> None:
    """Raises ModelError for what is neither a model folder nor an ONNX file."""
    if model.is_dir():
        if not (model / MANIFEST_NAME).exists() and (found := sorted(model.glob("*.onnx"))):
            raise ModelError(
                f"{model} is no model folder, without a {MANIFEST_NAME}; name the network: {found[0]}"
            )
        return
    if not model.exists():
        raise ModelError(f"{model} does not exist: name a model folder or an ONNX file")
    if is_recorded:
        raise ModelError(f"{model} has no manifest to --record in; --json keeps its scores")


def open_network(model: Path, convention: Convention, provider: Provider, threads: int | None) -> Network:
    if model.is_dir():
        return Engine(model, provider, threads)
    network = ForeignNetwork(model, convention, provider, threads)
    note(str(network))
    return network


def score_network(network: Network, sets: Sequence[ImageSet], model: str, is_one_of_several: bool) -> Report:
    network.derain(sets[0].cases[0].read().rainy)  # the first run is slower than all that follow
    measured_on = f"{network.provider}, {network.threads} thread{'s' * (network.threads > 1)}"
    results: list[Result] = []
    real: list[RealResult] = []
    for each in sets:
        title = f"{model}: {each.name}" if is_one_of_several else each.name
        progress = tqdm(each.cases, desc=title, unit="image", disable=None)
        if each.has_truth:
            measured = measure(network.derain, progress)
            scores = summarise(each.name, each.role, measured, each.kind, each.tone_changed)
            known = {
                "ms_per_megapixel": ms_per_megapixel(measured),
                "measured_on": measured_on,
                "gain_kept": _gain_kept(scores, each.enlarged_from, results),
            }
            results.append(Result(each.cases, measured, scores.model_copy(update=known)))
        else:
            real.append(RealResult(each.name, each.cases, measure_real(network.derain, progress)))
    described = "through the engine that serves it"
    if isinstance(network, ForeignNetwork):
        described = str(network)
        _doubt([result.evaluation for result in results])
    return Report(model, described, measured_on, results, real)


def _gain_kept(enlarged: Evaluation, origin: str | None, results: Sequence[Result]) -> float | None:
    """None where nothing was enlarged, or nothing is gained as it is."""
    before = next((each.evaluation.counted_gain for each in results if each.evaluation.name == origin), None)
    if before is None or enlarged.counted_gain is None or before.mean <= 0:
        return None
    return enlarged.counted_gain.mean / before.mean


def _doubt(evaluations: Sequence[Evaluation]) -> None:
    """Says so on stderr when a network behaves as if it were fed otherwise than it was made to be."""
    for scores in evaluations:
        assert scores.clean is not None
        back = scores.clean.median_changed  # None: all came back identical
        if back is not None and back < _LOWEST_PLAUSIBLE_PSNR:
            does = f"spoils clean images ({back:.1f} dB back)"
        elif (back is None or back > _IDLE_PSNR) and abs(scores.removal or 0) < _IDLE_REMOVAL:
            does = "changes next to nothing"
        else:
            continue
        note(
            f"{scores.name}: it {does}. Is it fed as its maker fed it? "
            "See --range, --output-range, --channels and --returns"
        )
