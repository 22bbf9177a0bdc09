"""The whole chain, by the command that people type."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from derain.images.formats import PNG
from derain.images.plain import encode
from derain.inference.engine import Engine
from derain.manifest import Manifest, load_manifest
from tests.conftest import files_in, noise
from tests.training.conftest import changed
from training import recipes
from training.evaluation.held_out import HeldOut
from training.export.card import write_model_texts
from training.image_folder import list_images
from training.repository import HELD_OUT_PHOTOGRAPHS, ROOT
from training.run import main

pytestmark = pytest.mark.slow

SMOKE = ["smoke", "--steps", "4", "--count", "2", "--threads", "1"]
FILES = {"model.onnx", "estimator.onnx", "manifest.json", "README.md"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, few: HeldOut) -> Path:
    """A folder with `runs` and `models`, after the command was run once."""
    base = tmp_path_factory.mktemp("run")
    assert main([*SMOKE, *in_folder(base)], few) == 0
    return base


def in_folder(folder: Path) -> list[str]:
    return ["--runs", str(folder / "runs"), "--models", str(folder / "models")]


def assert_served(folder: Path, manifest: Manifest) -> None:
    """Down to the smallest image, of less than a cell: there, too, ONNX and PyTorch have agreed."""
    alignment_px = manifest.input.alignment_px
    assert manifest.parity.sizes[0] == (alignment_px, alignment_px)
    engine = Engine(folder, threads=1)
    for size in ((33, 50), (5, 7), (1, 1)):
        assert engine.examine(noise(*size), force=True).image.shape == (*size, 3)
    engine.close()


def test_run_leaves_a_model_that_can_be_served(base: Path) -> None:
    folder = base / "models" / "smoke"
    manifest = load_manifest(folder)
    assert_served(folder, manifest)
    assert [e.name for e in manifest.evaluations] == [
        "drawn drizzle",
        "drawn shower",
        "drawn downpour",
        "drawn squall",
    ]
    assert all(e.role == "validation" and e.pictures == 2 and e.psnr for e in manifest.evaluations)
    assert manifest.recipe["course"]["steps"] == 4
    card = (folder / "README.md").read_text()
    assert "drawn downpour" in card
    assert "2 photographs of `training/photographs/train`" in card
    assert [path.name for path in (base / "models").iterdir()] == ["smoke"], "nothing unfinished is left"


def test_a_hundredth_of_the_shipped_training_runs_whole(tmp_path: Path, few: HeldOut) -> None:
    """The command that made `models/base`, of its own networks, rain and images; of smaller batches."""
    steps = recipes.base().course.steps // 100
    arguments = ["--steps", str(steps), "--batch", "2", "--name", "hundredth"]
    assert main(["base", *arguments, *in_folder(tmp_path)], few) == 0
    folder, run_folder = tmp_path / "models" / "hundredth", tmp_path / "runs" / "hundredth"
    assert files_in(folder) == FILES
    manifest = load_manifest(folder)
    expected = changed(recipes.base(), steps=steps, batch=2)
    assert manifest.recipe == json.loads(json.dumps(recipes.describe(expected)))
    assert len(manifest.evaluations) == 4
    assert manifest.estimator is not None
    assert "of 4 networks side by side" in (folder / "README.md").read_text()
    assert list((run_folder / "samples").glob("*.jpg"))
    entries = [json.loads(line) for line in (run_folder / "stats.jsonl").read_text().splitlines()]
    assert entries[-1]["step"] == steps
    assert entries[-1]["removal"] is not None
    assert entries[-1].keys() >= {"clean_worst_psnr"}, "the worst, which no mean hides"
    assert_served(folder, manifest)
    engine = Engine(folder, threads=1)
    image = noise(300, 1400)  # at two scales
    assert not np.array_equal(engine.examine(image, force=True).image, image)
    engine.close()


def test_the_commands_that_it_ends_with_are_there(
    base: Path, few: HeldOut, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for those who have not activated the environment."""
    assert main([*SMOKE, *in_folder(base)], few) == 0
    programs = re.findall(r"^  (\S+/bin/\w+) ", capsys.readouterr().out, flags=re.MULTILINE)
    assert [Path(program).name for program in programs] == ["tensorboard", "derain"]
    assert all(os.access(program, os.X_OK) for program in programs)


def test_run_folder_says_what_was_run(base: Path) -> None:
    about = json.loads((base / "runs" / "smoke" / "run.json").read_text())
    manifest = load_manifest(base / "models" / "smoke")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", about["commit"])
    assert about["commit"] == manifest.commit
    assert about["recipe"] == json.loads(manifest.model_dump_json())["recipe"]


def test_same_command_again_does_not_train_again_and_keeps_what_was_measured_since(
    base: Path, few: HeldOut
) -> None:
    """Also where it was killed as the new model was to take the place of the old one."""
    run_folder, folder = base / "runs" / "smoke", base / "models" / "smoke"
    manifest = load_manifest(folder)
    mine = manifest.evaluations[0].model_copy(update={"name": "mine"})
    (folder / "remarks.md").write_text("Blinds are taken for rain.")
    (folder / "clean.jpg").write_bytes(b"an image")
    write_model_texts(folder, manifest.model_copy(update={"evaluations": [*manifest.evaluations, mine]}))
    folder.rename(base / "models" / ".smoke.replaced")
    networks = ("model.onnx", "estimator.onnx")
    paths = [base / "models" / ".smoke.replaced" / name for name in networks]
    paths += [run_folder / name for name in ("checkpoint.pt", "stats.jsonl", "run.json")]
    before = [path.read_bytes() for path in paths]
    assert main([*SMOKE, *in_folder(base)], few) == 0
    made = [folder / name for name in networks]
    assert [path.read_bytes() for path in (*made, *paths[2:])] == before
    assert load_manifest(folder).evaluations == [*manifest.evaluations, mine]
    card = (folder / "README.md").read_text()
    assert "## Known failures\n\nBlinds are taken for rain.\n" in card
    assert "](clean.jpg)" in card
    assert (folder / "clean.jpg").read_bytes() == b"an image"
    assert [path.name for path in (base / "models").iterdir()] == ["smoke"], "nothing unfinished is left"


def test_damaged_model_is_replaced_and_a_damaged_record_is_said(
    base: Path, few: HeldOut, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either of its files may be the one that is damaged."""
    folder, record = base / "models" / "smoke", base / "runs" / "smoke" / "run.json"
    estimator, about = (folder / "estimator.onnx").read_bytes(), json.loads(record.read_text())
    (folder / "estimator.onnx").write_bytes(b"damaged")
    record.write_text('{"commit": "0')
    assert main([*SMOKE, *in_folder(base)], few) == 0
    assert f"{record} is missing or damaged: written anew, its commit unknown" in capsys.readouterr().err
    assert json.loads(record.read_text()) == about | {"commit": "unknown"}
    manifest = load_manifest(folder)
    assert (folder / "estimator.onnx").read_bytes() == estimator
    assert manifest.commit == "unknown"
    assert len(manifest.evaluations) == 4, "what was recorded of a damaged model is forgotten"
    assert files_in(folder) == FILES, "and what was said of it"


@pytest.mark.parametrize("option", ["--models", "--runs"])
@pytest.mark.parametrize("inside", [".", "inside"])
def test_places_that_are_no_folders_are_said_before_the_training(
    option: str, inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    place = tmp_path / "file" / inside
    assert main([*SMOKE, *in_folder(tmp_path), option, str(place)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {option} {place} cannot be made a folder: ")
    assert not [path for path in tmp_path.rglob("*") if path.name in ("stats.jsonl", "run.json")]


def test_other_settings_under_the_same_name_are_refused(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMOKE, "--seed", "5", *in_folder(base)]) == 1
    assert "made by another recipe" in capsys.readouterr().err


def test_folder_that_is_no_model_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = tmp_path / "models" / "mine" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("unsaved")
    assert main(["smoke", "--name", "mine", *in_folder(tmp_path)]) == 1
    assert "mine is there and is no model folder" in capsys.readouterr().err
    assert precious.read_text() == "unsaved"
    assert not (tmp_path / "runs").exists()


def test_a_machine_that_is_taken_away_and_a_disk_that_is_full(tmp_path: Path) -> None:
    """Stopped by SIGTERM, the run has its checkpoint, and keeps it when the next cannot be written."""
    folder = tmp_path / "runs" / "smoke"
    started = [sys.executable, "training/run.py", "smoke", "--backgrounds", "leaves", *in_folder(tmp_path)]
    started += ["--threads", "1"]
    with subprocess.Popen(started, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not (folder / "tensorboard").exists():  # as soon as it can be asked to stop
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "saved a checkpoint; the same command goes on from it" in said.splitlines()[-1]
    before = (folder / "checkpoint.pt").read_bytes()

    # No file may be larger than 100 kB: what the disk refuses is as real as when it is full.
    # Batches that workers hand over are files as well: here there are none.
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *started, "--workers", "0"]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    path = folder / "checkpoint.pt"
    assert done.stderr.splitlines()[-1] == f"error: the checkpoint {path} cannot be written: File too large"
    assert path.read_bytes() == before
    assert {path.name for path in folder.iterdir()} >= {"checkpoint.pt", "stats.jsonl", "tensorboard"}
    assert not [path for path in folder.rglob("*") if "unfinished" in path.name]


def test_two_processes_leave_the_same_model(base: Path, few: HeldOut, tmp_path: Path) -> None:
    """By torchrun, to what is below the noise between any two runs."""
    command = tmp_path / "scored_on_few.py"
    command.write_text(
        "import sys; from pathlib import Path, PosixPath\n"
        "from training.evaluation.held_out import HeldOut\n"
        "from training.run import main\n"
        f"sys.exit(main(None, {few!r}))\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(command), *SMOKE, *in_folder(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| removal η |") == done.stdout.count("is ready:") == 1, "one of them speaks"
    ours, theirs = (load_manifest(folder / "models" / "smoke") for folder in (tmp_path, base))
    for mine, other in zip(ours.evaluations, theirs.evaluations, strict=True):
        assert mine.psnr == pytest.approx(other.psnr, abs=0.02)
    assert ours.recipe == theirs.recipe


def test_two_processes_say_once_what_is_wrong() -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, "training/run.py", "smoke", "--batch", "0"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stderr.count("--batch: '0' is no whole number of 1 or more") == 1, done.stderr


def test_unreadable_background_is_an_error_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert main(["smoke", "--backgrounds", str(tmp_path), *in_folder(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"error: {tmp_path / 'broken.png'}: not a")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backgrounds", "missing"], "missing is not a folder"),
        (["--count", "999"], "999 backgrounds asked for"),
        (["--rain", "frogs"], "no rain family 'frogs': small, medium"),
        (["--rain", "downpour"], "downpour is kept for evaluation; train on small, medium"),
        (["--rain", "textures:missing"], "missing is not a folder"),
    ],
)
def test_backgrounds_and_rain_that_are_not_there_are_an_error(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", *arguments, *in_folder(tmp_path)]) == 1
    assert f"error: {words}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        ([], "required: recipe"),
        (["smoke", "--steps", "-1"], "--steps: '-1' is no whole number of 1 or more"),
        (["smoke", "--seed", "-1"], "--seed: '-1' is no whole number"),
        (["smoke", "--name", "my model"], "--name"),
    ],
)
def test_bad_arguments_are_explained(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--backgrounds", "missing", *in_folder(tmp_path)])
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err


def test_what_scores_a_model_is_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is a copy of it."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "mine.png").write_bytes(encode(noise(40, 40), PNG))
    source = list_images(HELD_OUT_PHOTOGRAPHS)[0]
    copy = shutil.copy(source, photographs / f"copy{source.suffix}")
    for folder, path in ((HELD_OUT_PHOTOGRAPHS, source), (photographs, copy)):
        assert main(["smoke", "--backgrounds", str(folder), *in_folder(tmp_path)]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == f"error: {path} cannot be trained on: models are scored on it, as {source}"
    assert not (tmp_path / "runs" / "smoke").exists()


def test_failed_start_does_not_stand_in_the_record_of_the_next(tmp_path: Path) -> None:
    for folder in (tmp_path / "mistyped", tmp_path / "meant"):
        folder.mkdir()
        (folder / "broken.png").write_bytes(b"no image")
        assert main(["smoke", "--backgrounds", str(folder), *in_folder(tmp_path)]) == 1
    about = json.loads((tmp_path / "runs" / "smoke" / "run.json").read_text())
    assert about["recipe"]["backgrounds"]["photographs"].endswith("meant")


def test_help_as_a_module() -> None:
    """As a file it is started above."""
    done = subprocess.run(
        [sys.executable, "-m", "training.run", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "torchrun --nproc-per-node 2 training/run.py base" in done.stdout
    assert not done.stderr
