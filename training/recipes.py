"""Recipes: everything that decides how a model is trained, by name."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from derain.tiling import QUARTERS
from training.backgrounds import Leaves
from training.network import NetworkShape
from training.rain.families import MIXED, MURKY, Family
from training.rain.mixture import Mixture
from training.rain.streaks import MEDIUM
from training.survey import Look, SurveyShape

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = ROOT / "training" / "photographs" / "train"

InnerOptimiser = Literal["muon", "adamw"]
Loss = Literal["rmse", "l1"]


@dataclass(frozen=True)
class Surveying:
    """How the survey is trained, before the networks that it tells what rain it is."""

    shape: SurveyShape = field(default_factory=SurveyShape)
    rain: Mixture = MURKY  # whatever the networks are trained on: the survey has to be told what was drawn
    steps: int = 4_000
    batch: int = 16  # windows
    window_px: int = 224
    scene_px: int = 336  # of what the networks see patches of, and the survey windows
    patches: int = 4  # of each scene
    noticing_steps: int = 900  # of as many windows each, by which it then learns whether there is rain at all
    look: Look = field(default_factory=Look)  # of the finished model


@dataclass(frozen=True)
class Recipe:
    """A training run. The same recipe gives the same samples in the same order."""

    name: str
    network: NetworkShape
    survey: Surveying | None  # without one the network is told nothing
    members: int  # networks, trained one after the other by seeds that follow; the model is their mean
    rain: Family
    early_rain: Family  # in the first steps: streaks alone, before veils

    photographs: Path | None  # a folder of clean pictures; None trains on leaves alone
    photograph_count: int | None  # how many of them, chosen by the seed; None is all
    leaves: Leaves
    leaves_count: int  # procedural pictures
    leaves_share: float  # how often a patch is cut from leaves rather than a photograph
    clean_share: float  # how often a patch carries no rain, so that clean pictures come back
    tone_share: float  # how often the scene is in another light, or in mist that is no rain
    line_share: float  # how often a patch carries lines that are no rain: writing, wires, bars
    facade_share: float  # how often there is a façade before the scene, which is no rain either
    camera_share: float  # how often a patch has been through a camera: noise and JPEG, rainy and clean alike

    steps: int
    batch: int  # patches; scenes, of several patches each, where there is a survey
    patch_px: int
    early_share: float  # of the steps, of `early_rain`
    late_patch_px: int  # at the end: a network that sees farther than a patch has to see some of it
    late_share: float  # of the steps
    learning_rate: float = 1.5e-3  # after the warm-up and until the decay
    warmup_steps: int = 200
    decay_share: float = 0.5  # of the steps, at the end, over which the rate falls to zero
    weight_decay: float = 1e-4
    gradient_clip: float = 0.5
    optimiser: InnerOptimiser = "muon"  # of the inner convolutions; AdamW has the rest in any case
    loss: Loss = "rmse"  # of each patch; what is made small is its mean over patches
    average_decay: float = 0.999  # of the running mean of the weights, which is what ships
    seed: int = 0

    log_every: int = 100
    validate_every: int = 2000
    checkpoint_every: int = 1000

    def member(self, number: int) -> "Recipe":
        """By which member `number`, from 0, is trained: a recipe of one network."""
        return replace(self, members=1, seed=self.seed + number)

    def of_survey(self) -> "Recipe":
        """By which the survey is trained."""
        assert self.survey is not None
        survey = self.survey
        return replace(
            self,
            members=1,
            rain=survey.rain,
            early_rain=survey.rain,
            steps=survey.steps,
            batch=survey.batch,
            patch_px=survey.window_px,
            early_share=0.0,
            late_share=0.0,
        )

    def of_noticing(self) -> "Recipe":
        """Of which windows the survey learns whether there is rain at all.

        As large as the model's, half of them dry, and none that it was trained on, whose steps end before.
        """
        assert self.survey is not None
        survey = self.survey
        return replace(
            self.of_survey(),
            survey=replace(survey, window_px=survey.look.longest_px),
            steps=survey.steps + survey.noticing_steps,
            clean_share=0.5,
            line_share=0.12,
            facade_share=0.35,
        )

    def rain_at(self, step: int) -> Family:
        return self.early_rain if step < self.steps * self.early_share else self.rain

    def patch_px_at(self, step: int) -> int:
        return self.late_patch_px if step >= self.steps * (1 - self.late_share) else self.patch_px


def fast() -> Recipe:
    """The recipe of `models/fast`: one network, for CPUs and video.

    Three quarters of an hour on two cores, nearly half of it for the survey.

    python training/run.py fast
    """
    return Recipe(
        name="fast",
        network=NetworkShape(width=16, dilations=(1, 2), is_told=True),
        survey=Surveying(look=Look(windows=QUARTERS, longest_px=144)),
        members=1,
        rain=MURKY,
        early_rain=MIXED,
        photographs=PHOTOGRAPHS,
        photograph_count=None,
        leaves=Leaves(complexity=0.2, size_px=336, row_share=0.15),
        leaves_count=192,
        leaves_share=0.3,
        clean_share=0.12,
        tone_share=0.5,
        line_share=0.05,
        facade_share=0.0,
        camera_share=0.3,
        steps=6_000,
        batch=8,
        patch_px=96,
        early_share=0.5,
        late_patch_px=160,
        late_share=0.06,
        learning_rate=2e-3,
    )


def base() -> Recipe:
    """The recipe of the shipped model, `models/base`: the mean of four networks like `fast`.

    What one network gets wrong in rain that it has never seen, another one of its kind often does not.

    python training/run.py base
    """
    survey = Surveying(look=Look(windows=QUARTERS, longest_px=192))
    return replace(fast(), name="base", members=4, survey=survey)


def best() -> Recipe:
    """Like `base`, of networks with nothing left out for speed.

    python training/run.py best
    """
    network = NetworkShape(width=16, dilations=(1, 2, 2, 1), upsampling="shuffle", is_told=True)
    return replace(base(), name="best", network=network)


def smoke() -> Recipe:
    """All of it in under two minutes on two cores: shows that the chain works, no more.

    python training/run.py smoke
    """
    return replace(
        fast(),
        name="smoke",
        network=NetworkShape(width=8, blocks=(1,), dilations=(1, 2), is_told=True),
        survey=Surveying(
            SurveyShape(widths=(8, 16, 24), blocks=(1, 1, 1), seen=16),
            steps=60,
            noticing_steps=10,
            batch=8,
            window_px=96,
            scene_px=144,
            patches=2,
            look=Look(windows=QUARTERS),
        ),
        photograph_count=6,
        leaves_count=8,
        steps=300,
        batch=8,
        patch_px=64,
        early_share=0.0,
        late_patch_px=64,
        warmup_steps=30,
        average_decay=0.98,
        log_every=20,
        validate_every=150,
        checkpoint_every=100,
    )


def study() -> Recipe:
    """One small training of many: what `python -m training.study` varies.

    A network of a tenth of the shipped one's size, patches of 64 px, the paper's `medium` rain
    on nine patches in ten (as in the code of its follow-up's authors), no mix of backgrounds.
    About a minute on one core.
    """
    return replace(
        fast(),
        name="study",
        network=NetworkShape(width=16, blocks=(1,), dilations=(1, 2, 1)),
        survey=None,
        rain=MEDIUM,
        leaves_count=0,
        leaves_share=0.0,
        clean_share=0.1,
        tone_share=0.0,
        line_share=0.0,
        camera_share=0.0,
        steps=2000,
        batch=16,
        patch_px=64,
        early_share=0.0,
        late_share=0.0,
        warmup_steps=100,
        average_decay=0.995,
        validate_every=2000,
        checkpoint_every=500,
    )


def ablation() -> Recipe:
    """One small training of many: what `python -m training.ablation` takes one thing away from.

    As `fast` but without a survey, for smaller patches, batches of 16, a quarter of the
    steps, and warm-up and running mean shortened with them. About a minute and a half on one core.
    """
    return replace(
        fast(),
        name="ablation",
        network=replace(fast().network, is_told=False),
        survey=None,
        steps=1500,
        batch=16,
        patch_px=64,
        late_patch_px=96,
        warmup_steps=50,
        average_decay=0.99,
        validate_every=1500,
        checkpoint_every=500,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "base": base,
    "fast": fast,
    "best": best,
    "smoke": smoke,
    "study": study,
    "ablation": ablation,
}


def describe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values; folders of this repository relative to its root."""
    described: dict[str, Any] = _plain(asdict(recipe))
    return described


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, Path):
        folder = value.resolve()
        return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)
    return value
