"""Beginning a training from the weights of a finished model, of the same size or smaller.

What is new in a larger network changes nothing at first: new channels are not listened to by the old
ones, and new residual blocks add zero (Chen, Goodfellow and Shlens, "Net2Net", 2016, by other means). So
the training goes on from what the smaller one had reached.

Of several models that came of the same weights, it may begin from the mean of theirs (Wortsman et al., "Model
soups", ICML 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from derain.errors import DerainError
from derain.manifest import load_manifest
from training.network import DerainNetwork
from training.survey import Survey, SurveyShape


class StartError(DerainError):
    """A model that a network cannot begin from."""


@dataclass(frozen=True)
class Start:
    """The model to begin from, pinned: another one in its place is noticed."""

    folder: Path
    sha256: str  # of its ONNX file
    member: int = 0  # which of its networks, where it is the mean of several; counted round and round
    kept: float = 0.0  # share of its weights in what ships, the rest is what was learnt from there
    also: tuple["Start", ...] = ()  # models the mean of whose networks' weights and its own is begun from


def start_from(folder: Path, kept: float = 0.0, also: Sequence[Path] = ()) -> Start:
    """Raises ModelError where a folder is no sound model."""
    others = tuple(start_from(other) for other in also)
    return Start(folder, load_manifest(folder).file.sha256, kept=kept, also=others)


@torch.no_grad()
def begin(network: DerainNetwork | Survey, start: Start) -> None:
    """Gives the network the model's weights, in place; it then computes what the model does, if all fits.

    A survey is given those of the model's, or keeps its own where the model has none; of several models, of
    the first.

    Raises StartError where the model is not the one that was meant, or not contained in the network.
    """
    if isinstance(network, Survey):
        if (known := survey_of(start, network.shape)) is not None:
            network.load_state_dict(known.state_dict())
        return
    of_each = []
    for model in (start, *start.also):
        _begin(network, replace(model, member=start.member))
        of_each.append([parameter.clone() for parameter in network.parameters()])
    for parameter, *weights in zip(network.parameters(), *of_each, strict=True):
        parameter.copy_(torch.stack(weights).mean(dim=0))


def _begin(network: DerainNetwork, start: Start) -> None:
    """From one model."""
    weights = _read_weights(start)
    there = dict(network.named_parameters())
    if missing := weights.keys() - there.keys():
        raise StartError(f"{start.folder} has weights that this network has no place for: {min(missing)}")
    for name, parameter in there.items():
        if name in weights:
            _widen(parameter, weights[name], f"{start.folder}: {name}")
        elif ".refine." in name:
            parameter.zero_()  # a new residual block adds nothing


@torch.no_grad()
def survey_of(start: Start, shape: SurveyShape) -> Survey | None:
    """The model's own, which its networks have learnt to understand; None where it has none.

    Raises StartError as `begin` does.
    """
    weights = _part("survey.", _read_all(start))
    if not weights:
        return None
    survey = Survey(shape)
    there = dict(survey.named_parameters())
    for name in ("notice.weight", "notice.bias"):  # those of earlier versions had none
        weights.setdefault(name, there[name])
    if weights.keys() != there.keys() or any(weights[name].shape != there[name].shape for name in there):
        raise StartError(f"{start.folder} has a survey of another size than the recipe's")
    survey.load_state_dict(weights)
    return survey.requires_grad_(False).eval()


def _read_weights(start: Start) -> dict[str, Tensor]:
    """Of one network."""
    weights = _read_all(start)
    weights = _part("network.", weights) or weights  # beside a survey
    members = {name.split(".")[1] for name in weights if name.startswith("members.")}
    return _part(f"members.{start.member % len(members)}.", weights) if members else weights


def _part(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _read_all(start: Start) -> dict[str, Tensor]:
    manifest = load_manifest(start.folder)
    if manifest.file.sha256 != start.sha256:
        raise StartError(f"{start.folder} is not the model that the training was to begin from")
    model = onnx.load(start.folder / manifest.file.name)
    weights = {
        stored.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(stored)))
        for stored in model.graph.initializer
        if stored.name.endswith((".weight", ".bias"))
    }
    return _told_in_places(weights)


def _told_in_places(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of networks that were told the same everywhere, by matrices and not by convolutions of one cell."""
    told: dict[str, Tensor] = {}
    for name, weight in weights.items():
        convolved = weight[..., None, None] if weight.ndim == 2 else weight
        if ".listen." in name:  # how much more than once, and what is added
            scale, shift = convolved.chunk(2)
            told[name.replace(".listen.", ".scale.")] = scale + 1 if weight.ndim == 1 else scale
            told[name.replace(".listen.", ".shift.")] = shift
        else:
            told[name] = convolved if "know" in name.split(".") else weight
    return told


def _widen(parameter: Tensor, weight: Tensor, what: str) -> None:
    """Of a convolution, (out, in, rows, columns), or its bias: the model's part; new inputs unheard."""
    sides = list(zip(weight.shape, parameter.shape, strict=False))
    channels, kernel = sides[:2], sides[2:]
    if (
        weight.ndim != parameter.ndim
        or any(old > new for old, new in channels)
        or any(old != new for old, new in kernel)
    ):
        raise StartError(
            f"{what} is {tuple(weight.shape)}, which does not fit into the network's {tuple(parameter.shape)}"
        )
    parameter[: weight.shape[0]] = 0
    parameter[tuple(slice(size) for size in weight.shape)] = weight
