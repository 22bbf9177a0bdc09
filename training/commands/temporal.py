"""The temporal network, which lets the frames of a video help one another: trains it, and scores it.

    python -m training temporal train
    python -m training temporal evaluate --rain shower downpour squall

Training renders its clips from the repository's photographs and drawn shapes first, into runs/temporal/clips
(6 GB), and derains their frames by models/base and models/fast; then it trains, writes models/temporal, and
scores it. The same command goes on where it was interrupted.
"""

import argparse
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from derain.arguments import at_least, run_command
from derain.arrays import Image
from derain.inference.engine import Engine
from derain.models.registry import find_model
from derain.video.temporal import MANIFEST_NAME, TEMPORAL_MODEL, TemporalNetwork
from training.export.model_folder import check_replaceable, replaced_when_done, restore
from training.repository import ROOT, current_commit
from training.trainer.distributed import alone_in
from training.video.clips import Clips
from training.video.evaluation import CAMERAS, VideoScores, held_out_clips, read_clip, score, table
from training.video.export import export_fusion, write_manifest
from training.video.falling import FallingRain, falling_rain
from training.video.fusion import FusionNetwork
from training.video.recipe import TemporalRecipe
from training.video.train import train_fusion

_RAIN = ("shower", "downpour", "squall")


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    run: Callable[[argparse.Namespace], int] = _train if options.command == "train" else _evaluate
    return run_command(lambda: run(options))


def _train(options: argparse.Namespace) -> int:
    recipe = replace(TemporalRecipe(), clips=options.clips, steps=options.steps)
    commit = current_commit()
    check_replaceable(options.output, MANIFEST_NAME, "--output")
    engines = [Engine(find_model(name), threads=options.threads) for name in options.models]
    frames_by = {engine.manifest.name: engine.manifest.sha256 for engine in engines}
    with alone_in(options.runs):
        restore(options.output)
        network = _trained(recipe, engines, options)
        # Beside its final place, and put there when it is scored.
        with replaced_when_done(options.output) as unfinished:
            if options.output.exists():  # what else is in the folder stays in it
                shutil.copytree(options.output, unfinished, dirs_exist_ok=True)
            described = recipe.describe() | {"frames_by": frames_by}
            manifest = export_fusion(network, described, commit, unfinished)
            temporal = TemporalNetwork(unfinished, threads=engines[0].threads)
            rain = [falling_rain(each) for each in _RAIN]
            scores = _scores(engines[0], temporal, rain, _drawn(options.score_clips))
            measured = {name: each.as_dict() for name, each in scores.items()}
            write_manifest(manifest.model_copy(update={"scores": measured}), unfinished)
    print(table(scores))
    return 0


def _trained(recipe: TemporalRecipe, engines: Sequence[Engine], options: argparse.Namespace) -> FusionNetwork:
    """On clips that are rendered first, where they are missing."""
    clips = Clips(recipe, options.runs / "clips", engines)
    with tqdm(total=recipe.clips, unit="clip", desc="clips", disable=None) as bar:
        clips.render(lambda: bar.update())
    torch.set_num_threads(options.threads or torch.get_num_threads())
    with tqdm(total=recipe.steps, unit="step", desc="training", disable=None) as bar:

        def note(done: int, loss: float) -> None:
            bar.n = done
            bar.set_postfix(loss=f"{loss:.4f}")

        return train_fusion(recipe, clips, options.runs, note)


def _evaluate(options: argparse.Namespace) -> int:
    rain = [falling_rain(each) for each in options.rain]
    engine = Engine(find_model(options.model), threads=options.threads)
    temporal = TemporalNetwork(options.temporal, threads=engine.threads)
    if options.video:
        clips = {str(path): [read_clip(path, options.frames)] for path in options.video}
    else:
        clips = _drawn(options.clips)
    print(table(_scores(engine, temporal, rain, clips)))
    return 0


def _drawn(count: int) -> dict[str, list[list[Image]]]:
    return {camera: held_out_clips(camera, count) for camera in CAMERAS}


def _scores(
    engine: Engine,
    temporal: TemporalNetwork,
    rain: Sequence[FallingRain],
    clips: dict[str, list[list[Image]]],
) -> dict[str, VideoScores]:
    """By clips and rain; the last of each is without rain."""
    families: list[FallingRain | None] = [*rain, None]
    return {
        f"{name}, {'dry' if each is None else each.name}": score(engine, temporal, some, each)
        for name, some in clips.items()
        for each in families
    }


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training temporal",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="render clips, train, export, score")
    recipe = TemporalRecipe()
    training.add_argument("--clips", type=at_least(1), default=recipe.clips, metavar="N")
    training.add_argument("--steps", type=at_least(1), default=recipe.steps, metavar="N")
    training.add_argument(
        "--models", nargs="+", default=["base", "fast"], metavar="MODEL", help="by which frames are derained"
    )
    training.add_argument("--runs", type=Path, default=ROOT / "runs" / "temporal", metavar="FOLDER")
    training.add_argument("-o", "--output", type=Path, default=TEMPORAL_MODEL, metavar="FOLDER")
    training.add_argument("--score-clips", type=at_least(1), default=6, metavar="N", help="of each kind")
    scoring = commands.add_parser("evaluate", help="what neighbouring frames are worth, on held-out clips")
    scoring.add_argument("--model", default="base", metavar="MODEL", help="by which frames are derained")
    scoring.add_argument("--temporal", type=Path, default=TEMPORAL_MODEL, metavar="FOLDER")
    scoring.add_argument(
        "--rain", nargs="+", default=_RAIN, metavar="FAMILY", help="drawn ones, or textures:FOLDER"
    )
    scoring.add_argument("--clips", type=at_least(1), default=6, metavar="N", help="of each kind")
    scoring.add_argument(
        "--video",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a dry video of yours, to be rained on in place of drawn clips; may be repeated",
    )
    scoring.add_argument("--frames", type=at_least(3), default=60, metavar="N", help="of each video")
    for command in (training, scoring):
        command.add_argument("--threads", type=at_least(1), metavar="N", help="(default: all cores)")
    return parser.parse_args(arguments)
