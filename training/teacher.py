"""A finished model that networks learn from: what it returns takes the place of the clean pictures.

So a network of another shape comes to do what a model does that took longer to train, or that is the mean of
several (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015). What is wrong with
the model is learnt as well.
"""

from typing import Any

import torch
from torch import Tensor

from derain.errors import DerainError
from derain.manifest import load_manifest
from training.network import DerainNetwork, MeanNetwork, NetworkShape
from training.start import Start, begin, survey_of
from training.survey import Survey, SurveyShape, findings_of_patches


class TeacherError(DerainError):
    """A model that cannot be learnt from."""


class Teacher:
    """The model, on a device; one that has a survey must be given windows for it to look at.

    Raises TeacherError or ModelError where it is none that was trained here, or has a survey and no windows.
    """

    def __init__(self, start: Start, device: torch.device, *, looks_at_windows: bool) -> None:
        manifest = load_manifest(start.folder)
        try:
            shape = _network_shape(manifest.recipe["network"])
            count = int(manifest.recipe["members"])
            surveying = manifest.recipe["survey"]
            survey_shape = SurveyShape(**_tuples(surveying["shape"])) if surveying is not None else None
        except (KeyError, TypeError) as error:
            raise TeacherError(
                f"{start.folder} does not say how it was trained: nothing learns from it"
            ) from error
        members = [DerainNetwork(shape) for _ in range(count)]
        for number, member in enumerate(members):
            begin(member, Start(start.folder, start.sha256, number))
        self._network = MeanNetwork(members).requires_grad_(False).eval()
        self._network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._survey: Survey | None = None
        if survey_shape is not None and (survey := survey_of(start, survey_shape)) is not None:
            if not looks_at_windows:
                raise TeacherError(
                    f"{start.folder} has a survey, and the recipe that is to learn from it has none"
                )
            self._survey = survey.to(device)

    @torch.no_grad()
    def derain(self, rainy: Tensor, overview: Tensor | None = None, place: Tensor | None = None) -> Tensor:
        """What its networks make of patches, (N, 3, H, W); where they are told, see `findings_of_patches`.

        Those of a picture that looks dry to its survey as well: who learns leaves these alone by itself.
        """
        findings = None
        if self._survey is not None:
            assert overview is not None
            assert place is not None
            findings = findings_of_patches(self._survey, overview, place)
        derained: Tensor = self._network(rainy, findings)
        return derained.float()


def _network_shape(described: dict[str, Any]) -> NetworkShape:
    """As a manifest says it; the first ones do not say how they were upsampled."""
    return NetworkShape(**{"upsampling": "shuffle"} | _tuples(described))


def _tuples(described: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}
