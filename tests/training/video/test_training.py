"""From stills to `models/temporal`: the whole command, small."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from derain.inference.engine import Engine
from derain.video.choices import CHANNELS, CHOICES, mean
from derain.video.temporal import TemporalNetwork, load_temporal_manifest
from tests.conftest import files_in, noise, write_estimating
from tests.derain.video.clips import Clip, write_clip
from training.commands import temporal
from training.trainer.checkpoint import CheckpointError
from training.trainer.loop import DivergedError
from training.video.clips import Clips
from training.video.fusion import FusionNetwork, mean_of
from training.video.recipe import TemporalRecipe
from training.video.train import train_fusion

SMALL = TemporalRecipe(
    clips=2,
    clip_frames=5,
    side_px=64,
    photograph_count=2,
    leaves_count=1,
    steps=6,
    batch=2,
    patch_px=32,
    width=16,
)


def weights_of(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in network.parameters()])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Clips:
    rendered = Clips(SMALL, tmp_path_factory.mktemp("clips"), [engine])
    rendered.render()
    return rendered


def test_at_first_a_frame_is_mostly_what_deraining_made_of_it() -> None:
    weights = FusionNetwork().eval()(torch.rand(2, CHANNELS, 8, 12))
    assert weights.shape == (2, CHOICES, 8, 12)
    assert torch.allclose(weights.sum(dim=1), torch.ones(2, 8, 12))
    assert (weights[:, 0] > 0.7).all()


def test_the_mean_that_is_trained_is_the_one_that_is_served() -> None:
    images = [noise(16, 24, seed) for seed in range(CHOICES)]
    weights = torch.softmax(torch.randn(1, CHOICES, 8, 12), dim=1)
    stacked = torch.from_numpy(np.concatenate(images, axis=2).transpose(2, 0, 1)[None].astype(np.float32))
    trained = mean_of(stacked, weights)[0].permute(1, 2, 0).numpy()
    assert np.abs(trained - mean(images, weights[0].numpy())).max() <= 0.51


def test_a_weight_depends_on_no_cell_beyond_the_radius() -> None:
    """Tiles are cut by it."""
    torch.manual_seed(0)
    network = FusionNetwork(8, 8).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    given = torch.rand(1, CHANNELS, 64, 4).requires_grad_()
    network(given)[0, :, 31].square().sum().backward()
    assert given.grad is not None
    rows = given.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert max(31 - rows.min(), rows.max() - 31) <= network.receptive_radius


def test_a_stopped_training_goes_on(clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights_of(train_fusion(SMALL, clips, tmp_path / "whole", lambda done, loss: None))
    monkeypatch.setattr("training.video.train._CHECKPOINT_STEPS", 2)

    def stop(done: int, loss: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_fusion(SMALL, clips, tmp_path / "parts", stop)
    steps: list[int] = []
    again = train_fusion(SMALL, clips, tmp_path / "parts", lambda done, loss: steps.append(done))
    assert steps == [5, 6]
    assert torch.allclose(weights_of(again), whole, atol=1e-6)
    other = TemporalRecipe(clips=2, steps=9)
    checkpoint = tmp_path / "parts" / "checkpoint.pt"
    with pytest.raises(
        CheckpointError, match=f"another recipe .* remove {checkpoint} to start anew on the same"
    ):
        train_fusion(other, clips, tmp_path / "parts", lambda done, loss: None)
    others = Clips(SMALL, clips.folder, [Engine(write_estimating(tmp_path / "estimating"), threads=1)])
    with pytest.raises(CheckpointError, match=r"clips_from\.frames_by differ"):
        train_fusion(SMALL, others, tmp_path / "parts", lambda done, loss: None)


def test_a_training_that_diverges_stops(clips: Clips, tmp_path: Path) -> None:
    recipe = replace(SMALL, learning_rate=float("inf"))
    with pytest.raises(DivergedError, match="the loss is nan at step 1"):
        train_fusion(recipe, clips, tmp_path, lambda done, loss: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_videos_of_one_name_are_scored_each(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / folder / "clip.mkv" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        write_clip(path, Clip(stamps=range(0, 3 * 512, 512)))
    videos = [text for path in paths for text in ("--video", str(path))]
    assert temporal.main(["evaluate", "--model", str(model), "--rain", "shower", *videos]) == 0
    said = capsys.readouterr().out
    assert all(f"| {path}, {rain} |" in said for path in paths for rain in ("shower", "dry"))


@pytest.mark.slow
def test_the_whole_command(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(temporal, "TemporalRecipe", lambda: SMALL)
    monkeypatch.setattr("training.video.evaluation._FRAMES", 3)
    monkeypatch.setattr("training.video.evaluation._SIDE_PX", 64)
    folders = ["--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "made")]
    few = ["--models", str(model), "--score-clips", "1", "--threads", "1"]
    assert temporal.main(["train", *few, *folders]) == 0
    said = capsys.readouterr().out
    manifest = load_temporal_manifest(tmp_path / "made")
    assert manifest.recipe["steps"] == SMALL.steps
    assert list(manifest.recipe["frames_by"].values()) == [Engine(model).manifest.sha256]
    rows = [line for line in said.splitlines() if line.startswith("|")][2:]
    assert [row.split("|")[1].strip() for row in rows] == list(manifest.scores)
    assert set(manifest.scores) >= {"fixed, shower", "fixed, dry", "moving, squall"}
    assert TemporalNetwork(tmp_path / "made").manifest == manifest
    options = [
        "--model",
        str(model),
        "--temporal",
        str(tmp_path / "made"),
        "--rain",
        "shower",
        "--clips",
        "1",
    ]
    assert temporal.main(["evaluate", *options]) == 0
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| fixed, shower")]
    assert again == rows[:1]

    # Another one is put in its place when it is done, or not at all.
    (tmp_path / "made" / "README.md").write_text("what it is")
    before = contents(tmp_path / "made")
    sound = train_fusion
    with monkeypatch.context() as patch:
        patch.setattr(temporal, "train_fusion", lambda *arguments: damaged(sound(*arguments)))
        assert temporal.main(["train", *few, *folders]) == 1
    assert contents(tmp_path / "made") == before
    assert temporal.main(["train", *few, *folders]) == 0
    assert (tmp_path / "made" / "README.md").read_text() == "what it is"
    assert TemporalNetwork(tmp_path / "made").manifest == manifest
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged(network: FusionNetwork) -> FusionNetwork:
    with torch.no_grad():
        network.head.weight.fill_(float("nan"))
    return network


def test_one_training_at_a_time_in_a_folder(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = """if True:
        import fcntl, sys
        lock = open(sys.argv[1], "w")
        fcntl.lockf(lock, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.read()
        """
    command = [sys.executable, "-c", hold, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        places = ["--runs", str(tmp_path), "-o", str(tmp_path / "made")]
        assert temporal.main(["train", "--models", str(model), *places]) == 1
        other.communicate()
    assert f"{tmp_path} is being trained by another process already" in capsys.readouterr().err
    assert files_in(tmp_path) == {"lock"}


def test_what_cannot_be_trained_or_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert temporal.main(["evaluate", "--temporal", str(tmp_path)]) == 1
    assert "no model at" in capsys.readouterr().err
    assert temporal.main(["evaluate", "--rain", "mixed"]) == 1
    said = capsys.readouterr().err
    assert "mixed does not fall from frame to frame: drizzle, shower, downpour, squall" in said
    (tmp_path / "notes.txt").write_text("mine")
    assert temporal.main(["train", "-o", str(tmp_path)]) == 1
    assert f"{tmp_path} is there and is no model folder; choose another --output" in capsys.readouterr().err
    assert temporal.main(["train", "--models", "nosuch", "--runs", str(tmp_path)]) == 1
    assert "no model 'nosuch'" in capsys.readouterr().err
    (tmp_path / "no.mp4").write_bytes(b"no video")
    assert temporal.main(["evaluate", "--video", str(tmp_path / "no.mp4")]) == 1
    assert "no.mp4 cannot be read as a video" in capsys.readouterr().err
